package api

import (
	"context"
	"fmt"
	"net/http"
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
		monitor{s.b.Monitor}.register(api)
	case Controller:
		controller{b: s.b.Controller, node: s.b.Node, now: time.Now}.register(api)
	case Execution:
		execution{s.b.Execution}.register(api)
	}
	handle(api, get("health", "/health", "Whether the daemon is well"), func(context.Context, *struct{}) (health, error) {
		h := health{Status: "healthy", Detail: s.b.Node.Health()}
		h.ControllerID, h.Zone = s.b.Node.Identity()
		if h.Detail != "" {
			h.Status = "degraded"
		}
		return h, nil
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.page(name, name == s.wholePage()), promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}))
	doc := api.OpenAPI()
	addProblems(doc)
	doc.Paths["/metrics"] = page("prometheus", "Metrics of the daemon and its containers, Prometheus text format",
		"text/plain")
	text, err := describe(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot describe the %s service: %w", name, err)
	}
	mux.HandleFunc("GET /openapi.json", description(text))
	return mux, nil
}

// wholePage is the service whose page has the daemon's metrics: the first that is configured.
func (s *Server) wholePage() string {
	switch {
	case s.o.Monitor != "":
		return Monitor
	case s.o.Controller != "":
		return Controller
	}
	return Execution
}

// description serves a page that describes the API.
func description(page []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(page)
	}
}
