package node

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

// What is forecast is in status, explain, decision and predictions, is kept by the
// store, and is there at once in the next life.
func TestForecastsAreShown(t *testing.T) {
	t.Parallel()
	var kept map[knowledge.ServiceKey][]byte
	for life := range 2 {
		r := newRigOver(t, dockertest.Options{}, func(s *store.Store, cfg *config.Config) {
			cfg.Monitor.DeliberateEvery = time.Second
			if err := s.Learned.Commit(store.Batch{Models: kept}); err != nil {
				t.Fatal(err)
			}
		})
		id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted, Limits: knowledge.Limits{CPU: knowledge.OneCPU}})
		r.e.SetUsage(id, 0.5)
		r.managed(id)
		took := r.soon(60*time.Second, "a forecast", func() bool {
			ex, err := r.n.ops.Explain(t.Context(), api.ExplainRequest{Name: "web"})
			return err == nil && len(ex.Forecasts) >= 3 && ex.Envelope.Forecast != ""
		})
		if life == 1 && took > 8*time.Second {
			t.Errorf("the next life knew nothing for %s", took)
		}
		st, err := r.n.ops.Status(t.Context(), api.None{})
		if err != nil || st.Services[0].Forecast == nil || st.Services[0].Forecast.Horizon != 300 ||
			st.Services[0].Forecast.Level != 0.95 {
			t.Errorf("status: %+v, %v", st.Services, err)
		}
		plan, err := r.n.ops.Decide(t.Context(), "web")
		if err != nil || plan.Forecast == nil || plan.Forecast.Upper < 0.4 {
			t.Errorf("decision: %+v, %v", plan, err)
		}
		p, err := r.n.ops.Predict(t.Context(), "web", time.Minute)
		if err != nil || p.Insufficient || len(p.CPU) != 6 || len(p.Memory) != 6 || p.CPU[5] < 0.3 || p.CPU[5] > 0.7 {
			t.Errorf("predictions: %+v, %v", p, err)
		}
		r.stop()
		if kept, err = r.n.store.Learned.Models(); err != nil || len(kept["web"]) == 0 {
			t.Fatalf("%v, %v", kept, err)
		}
		t.Logf("%d bytes of models", len(kept["web"]))
	}
}
