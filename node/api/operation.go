package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Scope is the hosts that answer an operation.
type Scope uint8

// The scopes.
const (
	ThisHost  Scope = iota // the host that is asked
	OneHost                // the one host that runs the named container
	EveryHost              // every host, or every host that runs the named service; the answers are merged
)

// Row is one operation in the table. From it follow the route of the
// socket, the client's call and the entry in the API's description.
type Row struct {
	Name string // in logs and in the description
	Verb string // HTTP method: GET changes nothing
	// Path may hold {field}: the field of the request with the tag path:"field". Fields with a
	// tag query:"name" are sent in the query; a POST sends its request as JSON.
	Path    string
	Role    Role
	Scope   Scope
	Summary string
}

// Operation is a row with its types: Q is the request, R the answer.
type Operation[Q, R any] struct {
	Row
	Check func(Q) error // of the form of a request, before it runs; nil: any will do
}

// None is the request of an operation that takes nothing.
type None struct{}

// Done is the answer of an operation without any other.
type Done struct {
	Status string `json:"status"`
}

// Caller sends a request to a daemon and reads its answer; *Client is one.
type Caller interface {
	Call(ctx context.Context, row Row, request, answer any) error
}

// Call asks a daemon.
func (o Operation[Q, R]) Call(ctx context.Context, c Caller, q Q) (r R, err error) {
	err = c.Call(ctx, o.Row, q, &r)
	return r, err
}

// Route is an operation and the function that answers it.
type Route struct {
	Row
	request, answer reflect.Type
	serve           func(*http.Request) (any, error)
}

// Serve makes the route on which run answers. A request of type *Q with a method
// SetCaller(string) gets the name of the client.
func (o Operation[Q, R]) Serve(run func(context.Context, Q) (R, error)) Route {
	serve := func(r *http.Request) (any, error) {
		var q Q
		if err := readRequest(r, &q); err != nil {
			return nil, err
		}
		if c, ok := any(&q).(interface{ SetCaller(string) }); ok {
			c.SetCaller(caller(r.Context()))
		}
		if o.Check != nil {
			if err := o.Check(q); err != nil {
				return nil, err
			}
		}
		return run(r.Context(), q)
	}
	return Route{Row: o.Row, request: reflect.TypeFor[Q](), answer: reflect.TypeFor[R](), serve: serve}
}

// fieldOf is where a field of a request is sent: in the path, in the query, or, with neither
// tag, in the body.
func fieldOf(f reflect.StructField) (name string, inPath bool) {
	if name = f.Tag.Get("path"); name != "" {
		return name, true
	}
	return f.Tag.Get("query"), false
}

// readRequest reads the body of a POST, and the fields of path and query.
func readRequest(r *http.Request, into any) error {
	if !isRead(r) {
		if err := strictQuery(r.URL.RawQuery, nil); err != nil {
			return err
		}
		if _, none := into.(*None); none && r.ContentLength == 0 {
			return nil
		}
		return decode(r.Body, into)
	}
	var names []string
	for f := range reflect.TypeOf(into).Elem().Fields() {
		if name, inPath := fieldOf(f); !inPath {
			names = append(names, name)
		}
	}
	if err := strictQuery(r.URL.RawQuery, names); err != nil {
		return err
	}
	query := r.URL.Query()
	for f, v := range reflect.ValueOf(into).Elem().Fields() {
		name, inPath := fieldOf(f)
		text := query.Get(name)
		if inPath {
			text = r.PathValue(name)
		}
		if text == "" {
			continue
		}
		if err := setText(v, text); err != nil {
			return Errorf(KindInvalid, "%s: %v", name, err)
		}
	}
	return nil
}

// setText reads a value as writeText writes it.
func setText(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
	case bool:
		on, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("must be true or false")
		}
		v.SetBool(on)
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("must be a whole number")
		}
		v.SetInt(int64(n))
	case time.Duration:
		s, err := strconv.ParseFloat(text, 64)
		if err != nil || !(s >= -maxSeconds && s <= maxSeconds) { // NaN too
			return errors.New("must be seconds")
		}
		v.SetInt(int64(s * float64(time.Second)))
	default:
		return errors.New("cannot be sent in a path or a query")
	}
	return nil
}

// maxSeconds is less than a Duration holds.
const maxSeconds = 1e9

func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return x
	case bool:
		return strconv.FormatBool(x)
	case int:
		return strconv.Itoa(x)
	case time.Duration:
		return strconv.FormatFloat(x.Seconds(), 'f', -1, 64)
	}
	return ""
}

// target is the path and the query of a request. A name that the path cannot hold is an error.
func target(row Row, request any) (string, error) {
	path, query := row.Path, url.Values{}
	for f, v := range reflect.ValueOf(request).Fields() {
		name, inPath := fieldOf(f)
		switch s := text(v); {
		case name == "":
		case inPath:
			if err := checkPlace(s); err != nil {
				return "", err
			}
			if s == "." || s == ".." { // the path would be another one
				return "", Errorf(KindNotFound, "there is no container or service %q", s)
			}
			path = strings.Replace(path, "{"+name+"}", url.PathEscape(s), 1)
		case !v.IsZero():
			query.Set(name, s)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path, nil
}
