package node

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// TestRow131Page: row 131, the page of a running loop has what dashboards need of a container.
func TestRow131Page(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: map[string]string{"effiscale.enable": "true",
		"effiscale.class": "serving", "effiscale.cpu": "0.1..0.2"},
		Limits: knowledge.Limits{CPU: knowledge.OneCPU / 5, Memory: 256 * knowledge.MiB}})
	r.e.SetUsage(id, 1.5) // more than its labels allow
	r.managed(id)
	s, c := r.serve(api.Options{Monitor: "127.0.0.1:0", Execution: "127.0.0.1:0"})
	page := func() string {
		resp, err := c.Get("http://" + s.Addr(api.Monitor) + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	r.n.o.Env = []string{"EFFISCALE_NODE_MODE=wrong"}
	if err := r.n.Reload(t.Context()); err == nil {
		t.Error("a wrong mode was accepted")
	}
	missing := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("missing: ", missing)
		}
	})
	r.soon(20*time.Second, "the page has all", func() bool {
		text := page()
		for _, want := range []string{
			`effiscale_container_info{class="serving",container="web",image="`, `mode="auto",owner="`, `service="web"} 1`,
			`effiscale_container_oom_kills_total{container="web"} 0`, `effiscale_container_restarts_total{container="web"} 0`,
			`effiscale_container_memory_usage_bytes{container="web"} `, `effiscale_container_memory_cache_bytes{container="web"} `,
			`effiscale_container_memory_unreclaimable_bytes{container="web"} `,
			`effiscale_container_cpu_ceiling_cores{container="web"} 0.2`,
			`effiscale_container_state{container="web",state="limited"} 1`, `effiscale_problems{kind="limited"} 1`,
			`effiscale_problems{kind="engine"} 0`, `effiscale_container_cpu_not_granted_cores{container="web"} 1.`,
			`effiscale_config_last_reload_successful 0`,
		} {
			if !strings.Contains(text, want) {
				missing = want
				return false
			}
		}
		return true
	})
}
