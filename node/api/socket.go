package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
)

// socketHandler serves the commands. The names of services come from labels, so
// the path is left to the mux and the names to checkName.
func (s *Server) socketHandler() (http.Handler, error) {
	mux := http.NewServeMux()
	for _, route := range s.b.Routes {
		mux.HandleFunc(route.Verb+" "+route.Path, func(w http.ResponseWriter, r *http.Request) {
			v, err := route.serve(r)
			if err != nil {
				w.(*answer).problem(wire(err))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(v); err != nil {
				w.(*answer).problem(refuse(http.StatusInternalServerError, "cannot write the answer as JSON: "+err.Error()))
			}
		})
	}
	page, err := describeRoutes(s.o.Version, s.b.Routes)
	if err != nil {
		return nil, fmt.Errorf("cannot describe the commands: %w", err)
	}
	mux.HandleFunc("GET /openapi.json", description(page))
	checks := []check{s.admitRate, s.admitPeer, admitRoute(mux), s.admitBrowser, admitBody}
	return s.guarded(socketName, mux, s.limits.command, checks), nil
}

// decode reads one JSON object with the keys that are known and nothing after it.
func decode(body io.Reader, into any) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return Errorf(KindBadRequest, "cannot read the body: %v", err)
	}
	if err := strictBody(b, reflect.TypeOf(into)); err != nil {
		return err
	}
	err = json.Unmarshal(b, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return Errorf(KindInvalid, "body.%s: %s is of another kind, or out of range", wrong.Field, wrong.Value)
	}
	return Errorf(KindBadRequest, "cannot read the body as JSON: %v", err)
}
