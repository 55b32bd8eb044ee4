package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// fieldsOf are the JSON keys of a struct, and the types of their values.
func fieldsOf(t reflect.Type) (names []string, types map[string]reflect.Type) {
	types = map[string]reflect.Type{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		names = append(names, name)
		types[name] = f.Type
	}
	return names, types
}

// allowedText lists names for a message.
func allowedText(names []string) string {
	if len(names) == 0 {
		return "none is allowed here"
	}
	return "allowed: " + strings.Join(names, ", ")
}

// strictBody checks the keys of a JSON object against a struct type. encoding/json ignores
// unknown keys, takes any case of a key, and the last of two equal ones. An empty body is left
// to the caller.
func strictBody(b []byte, t reflect.Type) error {
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, new(json.RawMessage)); err != nil {
		return Errorf(KindBadRequest, "cannot read the body as JSON: %v", err)
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if b = bytes.TrimSpace(b); b[0] != '{' {
		names, _ := fieldsOf(t)
		return Errorf(KindInvalid, "body: must be an object; fields: %s", allowedText(names))
	}
	return strictValue("body", b, t)
}

// strictValue checks a valid JSON value. A pointer or a slice may be null.
func strictValue(at string, b []byte, t reflect.Type) error {
	kind := t.Kind()
	if kind == reflect.Pointer {
		t = t.Elem()
	}
	if b[0] == 'n' && kind != reflect.Pointer && kind != reflect.Slice {
		return Errorf(KindInvalid, "%s: must not be null", at)
	}
	if b[0] == 'n' {
		return nil
	}
	if want := wantedForm(b, t); want != "" {
		return Errorf(KindInvalid, "%s: must be %s", at, want)
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	names, types := fieldsOf(t)
	seen := map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(b))
	_, _ = d.Token() // the brace
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		of, ok := types[name]
		switch {
		case !ok:
			return Errorf(KindInvalid, "%s.%s: unknown field; %s", at, bare(name), allowedText(names))
		case seen[name]:
			return Errorf(KindInvalid, "%s.%s: is given twice", at, name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if err := strictValue(at+"."+name, value, of); err != nil {
			return err
		}
	}
	return nil
}

// wantedForm is the form that a JSON value must have for a type; "": it has it.
func wantedForm(b []byte, t reflect.Type) string {
	number := b[0] == '-' || b[0] >= '0' && b[0] <= '9'
	switch t.Kind() {
	case reflect.String:
		return unless(b[0] == '"', "text")
	case reflect.Bool:
		return unless(b[0] == 't' || b[0] == 'f', "true or false")
	case reflect.Float64:
		if _, err := strconv.ParseFloat(string(b), 64); number && err != nil {
			return "a number that fits 64 bits"
		}
		return unless(number, "a number")
	case reflect.Int, reflect.Int64:
		return unless(number && !bytes.ContainsAny(b, ".eE"), "a whole number")
	case reflect.Slice:
		return unless(b[0] == '[', "a list")
	case reflect.Struct:
		return unless(b[0] == '{', "an object")
	}
	return ""
}

func unless(ok bool, want string) string {
	if ok {
		return ""
	}
	return want
}

// bare is untrusted text in a message, without quotes.
func bare(s string) string { return strings.Trim(quote(s), `"`) }

// strictQuery checks the names of a query's parameters.
func strictQuery(raw string, allowed []string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return Errorf(KindBadRequest, "cannot read the query: %v", err)
	}
	for name, values := range query {
		switch {
		case !slices.Contains(allowed, name):
			return Errorf(KindInvalid, "query.%s: unknown parameter; %s", bare(name), allowedText(allowed))
		case len(values) > 1:
			return Errorf(KindInvalid, "query.%s: is given %d times", name, len(values))
		case values[0] == "":
			return Errorf(KindInvalid, "query.%s: is empty", name)
		}
	}
	return nil
}

// strictHeader checks the headers that a call takes: huma takes the first of several, and an
// empty one for none.
func strictHeader(header http.Header, name string) error {
	values := header.Values(name)
	switch {
	case len(values) > 1:
		return Errorf(KindInvalid, "%s: is given %d times", name, len(values))
	case len(values) == 1 && values[0] == "":
		return Errorf(KindInvalid, "%s: is empty", name)
	}
	return nil
}

// strictly checks the names in query, headers and body of a typed call, before huma reads
// their values.
func strictly[In any](ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	var allowed []string
	var err error
	for _, p := range ctx.Operation().Parameters {
		switch p.In {
		case "query":
			allowed = append(allowed, p.Name)
		case "header":
			err = cmp.Or(err, strictHeader(r.Header, p.Name))
		}
	}
	err = cmp.Or(err, strictQuery(r.URL.RawQuery, allowed))
	if err == nil && !isRead(r) {
		body := reflect.TypeFor[struct{}]()
		if f, ok := reflect.TypeFor[In]().FieldByName("Body"); ok {
			body = f.Type
		}
		err = strictBody(bodyOf(r), body)
	}
	if err != nil {
		w.(*answer).problem(wire(err))
		return
	}
	next(ctx)
}
