package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// restoreRequest is the body of POST /restore; "": all containers.
type restoreRequest struct {
	Container string `json:"container"`
}

// done is the answer of calls that have nothing to tell.
type done struct {
	Status string `json:"status"`
}

// call answers one request of the socket with a value for JSON.
type call func(r *http.Request) (any, error)

// socketHandler serves the commands. The names of services come from labels, so
// the path is left to the mux and the names to checkName.
func (s *Server) socketHandler() http.Handler {
	mux := http.NewServeMux()
	for pattern, c := range s.calls() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := c(r)
			if err != nil {
				var p *problem
				if !errors.As(err, &p) {
					p = wire(err)
				}
				w.(*answer).problem(p)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(v); err != nil {
				w.(*answer).problem(refuse(http.StatusInternalServerError, "cannot write the answer as JSON: "+err.Error()))
			}
		})
	}
	gates := []check{s.admitRate, s.admitPeer, admitRoute(mux), s.admitBrowser, admitBody}
	return s.guarded(socketName, mux, s.limits.command, gates)
}

// calls are the daemon's, one route each.
func (s *Server) calls() map[string]call {
	return map[string]call{
		"GET /health":         func(*http.Request) (any, error) { return done{Status: orHealthy(s.d.Health())}, nil },
		"GET /status":         func(r *http.Request) (any, error) { return s.d.Status(r.Context()) },
		"GET /plan":           s.plan,
		"GET /explain/{name}": s.explain,
		"GET /records/{name}": s.records,
		"GET /trace/{name}":   s.trace,
		"GET /members":        func(r *http.Request) (any, error) { return s.d.Members(r.Context()) },
		"GET /keys":           func(r *http.Request) (any, error) { return s.d.Keys(r.Context()) },
		"POST /join":          s.join,
		"POST /leave":         s.leave,
		"POST /keys":          s.keyChange,
		"POST /scale":         s.scale,
		"POST /pause":         s.pause,
		"POST /restore":       s.restore,
		"POST /reload": func(r *http.Request) (any, error) {
			return done{Status: "reloaded"}, s.d.Reload(r.Context())
		},
	}
}

func orHealthy(s string) string {
	if s == "" {
		return "healthy"
	}
	return s
}

func (s *Server) explain(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if err := CheckPlace(name); err != nil {
		return nil, err
	}
	return s.d.Explain(r.Context(), name)
}

func (s *Server) plan(r *http.Request) (any, error) {
	q := r.URL.Query()
	p := PlanRequest{Name: q.Get("name"), AllHosts: q.Get("all_hosts") == "true"}
	if p.Name != "" {
		if err := checkPlace(p.Name); err != nil {
			return nil, err
		}
	}
	if p.Name != "" && p.AllHosts {
		return nil, refuse(http.StatusUnprocessableEntity, "name: none with all_hosts")
	}
	return s.d.Plan(r.Context(), p)
}

// maxRecords bounds one answer of history.
const maxRecords = 10000

func (s *Server) records(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if err := checkPlace(name); err != nil {
		return nil, err
	}
	limit, err := 0, error(nil)
	if asked := r.URL.Query().Get("limit"); asked != "" {
		limit, err = strconv.Atoi(asked)
	}
	if err != nil || limit < 0 || limit > maxRecords {
		return nil, refuse(http.StatusUnprocessableEntity, "limit: must be from 0 (the daemon's own) to "+strconv.Itoa(maxRecords))
	}
	return s.d.Records(r.Context(), name, limit)
}

// maxSince is how far back a trace may reach: series are kept for a month.
const maxSince = 31 * 24 * time.Hour

func (s *Server) trace(r *http.Request) (any, error) {
	q := TraceRequest{Name: r.PathValue("name"), Resource: r.URL.Query().Get("resource")}
	seconds, err := strconv.ParseFloat(r.URL.Query().Get("since"), 64)
	if err != nil || !(seconds >= 0 && seconds <= maxSince.Seconds()) {
		seconds = 0 // too little, which is refused
	}
	q.Since = time.Duration(seconds * float64(time.Second))
	if err := CheckTrace(q); err != nil {
		return nil, err
	}
	return s.d.Trace(r.Context(), q)
}

// CheckTrace checks the form of a request that came another way than over the API, too.
func CheckTrace(q TraceRequest) error {
	switch {
	case checkPlace(q.Name) != nil:
		return checkPlace(q.Name)
	case q.Resource != "cpu" && q.Resource != "memory":
		return refuse(http.StatusUnprocessableEntity, "resource: must be cpu or memory")
	case q.Since < time.Second || q.Since > maxSince:
		return refuse(http.StatusUnprocessableEntity, "since: must be seconds from 1 to "+strconv.Itoa(int(maxSince.Seconds())))
	}
	return nil
}

func (s *Server) scale(r *http.Request) (any, error) {
	var q ScaleRequest
	if p := decode(r.Body, &q); p != nil {
		return nil, p
	}
	q.By = caller(r.Context())
	if p := checkScale(q); p != nil {
		return nil, p
	}
	return s.d.Scale(r.Context(), q)
}

// maxPause is a year; longer is what "until resumed" is for.
const maxPause = 366 * 24 * time.Hour

func (s *Server) pause(r *http.Request) (any, error) {
	var q PauseRequest
	if p := decode(r.Body, &q); p != nil {
		return nil, p
	}
	if err := CheckPause(q); err != nil {
		return nil, err
	}
	res, err := s.d.Pause(r.Context(), q)
	res.Status = "done"
	return res, err
}

// CheckPause checks the form of a request that came another way than over the API, too.
func CheckPause(q PauseRequest) error {
	switch {
	case q.Service != "" && (q.All || q.AllHosts) || q.All && q.AllHosts:
		return refuse(http.StatusUnprocessableEntity, "service: either one, or all, or all_hosts")
	case !q.All && !q.AllHosts && checkPlace(q.Service) != nil:
		return checkPlace(q.Service)
	case q.For < 0 || q.For > maxPause:
		return refuse(http.StatusUnprocessableEntity, "for: must be at most a year; without it the pause lasts until resumed")
	}
	return nil
}

func (s *Server) restore(r *http.Request) (any, error) {
	var q restoreRequest
	if p := decode(r.Body, &q); p != nil {
		return nil, p
	}
	if q.Container != "" {
		if err := CheckPlace(q.Container); err != nil {
			return nil, err
		}
	}
	return s.d.Restore(r.Context(), q.Container)
}

// decode reads one JSON value with the keys that are known and nothing after it.
func decode(body io.Reader, into any) *problem {
	b, err := io.ReadAll(body)
	if err != nil {
		return refuse(http.StatusBadRequest, "the body could not be read: "+err.Error())
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err = dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("there is something after it")
		}
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return refuse(http.StatusUnprocessableEntity, "body."+wrong.Field+": must be a "+wrong.Type.String()+", not a "+wrong.Value)
	}
	return refuse(http.StatusBadRequest, "the body is not JSON that can be read: "+err.Error())
}
