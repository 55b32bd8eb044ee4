package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The names of the services.
const (
	Monitor    = "monitor"
	Controller = "controller"
	Execution  = "execution"
)

// health is GET /health of every service.
type health struct {
	Status       string `json:"status" enum:"healthy,degraded"`
	ControllerID string `json:"controller_id"`
	Zone         string `json:"zone"`
	Detail       string `json:"detail,omitempty" doc:"What is degraded"`
}

// exactMux hands huma's routes to a ServeMux; its "/" means the root alone.
type exactMux struct{ *http.ServeMux }

func (m exactMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	if strings.HasSuffix(pattern, " /") {
		pattern += "{$}"
	}
	m.ServeMux.HandleFunc(pattern, h)
}

// serviceMux builds the routes of one service and its OpenAPI description from
// one set of typed handlers.
func (s *Server) serviceMux(name string) (*http.ServeMux, error) {
	config := huma.DefaultConfig("EffiScale "+name, s.o.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema keys, no links
	config.AllowAdditionalPropertiesByDefault = true
	config.Transformers = []huma.Transformer{plainProblems}
	mux := http.NewServeMux()
	api := humago.New(exactMux{mux}, config)

	switch name {
	case Monitor:
		monitor{s.d}.register(api)
	case Controller:
		controller{d: s.d, now: time.Now}.register(api)
	case Execution:
		execution{s.d}.register(api)
	}
	huma.Register(api, answers[health](api, get("health", "/health", "Whether the daemon is well")), func(context.Context, *struct{}) (*out, error) {
		h := health{Status: "healthy", Detail: s.d.Health()}
		h.ControllerID, h.Zone = s.d.Identity()
		if h.Detail != "" {
			h.Status = "degraded"
		}
		return reply(h)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}))
	page, err := describe(api.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("cannot describe the %s service: %w", name, err)
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(page)
	})
	return mux, nil
}

// describe completes the description with what huma does not know: the shape of
// the errors, the metrics page and itself.
func describe(doc *huma.OpenAPI) ([]byte, error) {
	detail := &huma.Schema{
		Type:       huma.TypeObject,
		Required:   []string{"detail"},
		Properties: map[string]*huma.Schema{"detail": {Type: huma.TypeString, Description: "What is wrong, and what to do"}},
	}
	schemas := doc.Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	schemas["Problem"] = detail
	problems := &huma.Response{
		Description: "400 malformed, 401 or 403 not allowed, 404 unknown container, 409 refused by a guard, 413 body too large, 422 a wrong or missing field, 429 too many requests, 503 or 504 the Engine or the owner cannot be reached or did not answer in time",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
	}
	for _, item := range doc.Paths {
		for _, op := range operations(item) {
			delete(op.Responses, "422")
			delete(op.Responses, "500")
			op.Responses["default"] = problems
		}
	}
	doc.Paths["/metrics"] = page("prometheus", "Metrics of the daemon and its containers, Prometheus text format", "text/plain")
	doc.Paths["/openapi.json"] = page("openapi", "This description", "application/json")
	return json.MarshalIndent(doc, "", "  ")
}

// operations are those that a path has, of the methods that there are.
func operations(item *huma.PathItem) []*huma.Operation {
	return slices.DeleteFunc([]*huma.Operation{item.Get, item.Post}, func(op *huma.Operation) bool { return op == nil })
}

func page(id, summary, kind string) *huma.PathItem {
	return &huma.PathItem{Get: &huma.Operation{
		OperationID: id,
		Summary:     summary,
		Responses:   map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{kind: {}}}},
	}}
}
