package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// request is one call of a service, and what its answer must hold.
type request struct {
	service, method, path, body string
	want                        int
	holds                       []string
}

// TestServices asks each path of the three services once, as a client of the
// wire contract would, and some that are wrong (rows 54 to 56 in short).
func TestServices(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "web", spec{do: "idle", cpus: 0.3, memory: 96 * MiB}) // its own growth would get ahead of "up"
	d.start()
	d.sees(b)
	d.met(b)
	eventually(t, 20*time.Second, "there are readings", func() bool {
		status, body := d.ask(
			request{service: "monitor", method: "GET", path: "/metrics/" + b.name + "/history?time_window=60"},
		)
		return status == 200 && strings.Contains(body, `"std"`)
	})
	name, short := b.name, b.id[:12]
	vertical := func(body string) string { return `{"container_id":"` + name + `",` + body + `}` }
	for _, r := range []request{
		{"monitor", "GET", "/", "", 200, []string{`"status":"running"`, `"service":"Container Monitoring"`}},
		{"monitor", "GET", "/metrics/" + name, "", 200, []string{`"container_id":"` + name + `"`, `"cpu_usage"`, `"memory_limit":100663296`, `"cpu_limit"`, `"timestamp"`}},
		{"monitor", "GET", "/metrics/" + short, "", 200, []string{`"container_id":"` + short + `"`}},
		{"monitor", "GET", "/metrics/" + b.id, "", 200, []string{b.id}},
		{"monitor", "GET", "/metrics/" + name + "/history?time_window=60", "", 200, []string{`"time_window":60`, `"metrics":[{`, `"statistics":{"cpu":{"mean"`}},
		{"monitor", "POST", "/monitor/start/" + name, "", 200, []string{`"status":"warning"`, "Already monitoring"}},
		{"monitor", "POST", "/monitor/stop/" + name, "", 200, []string{`"status":"success"`, "Monitoring stopped"}},
		{"monitor", "POST", "/monitor/stop/" + name, "", 200, []string{`"status":"warning"`, "Not monitoring"}},
		{"monitor", "POST", "/monitor/start/" + name, "", 200, []string{`"status":"success"`, "Monitoring started"}},
		{"monitor", "GET", "/predictions/" + name + "?prediction_window=60", "", 200, nil},
		{"monitor", "GET", "/health", "", 200, []string{"healthy"}},
		{"monitor", "GET", "/metrics", "", 200, []string{"# TYPE effiscale_"}},
		{"monitor", "GET", "/openapi.json", "", 200, []string{`"/metrics/{container_id}"`}},
		{"controller", "GET", "/health", "", 200, []string{`"status":"healthy"`, `"controller_id":"e2e"`, `"zone":"default"`}},
		{"controller", "GET", "/metrics", "", 200, []string{"# TYPE effiscale_"}},
		{"controller", "GET", "/openapi.json", "", 200, []string{`"/decision"`}},
		{"controller", "POST", "/register", `{"controller_id":"peer-1","endpoint":"127.0.0.1:9002"}`, 200, []string{`"status":"registered"`}},
		{"controller", "GET", "/neighbors", "", 200, []string{`"peer-1":"127.0.0.1:9002"`}},
		{"controller", "POST", "/decision", `{"cpu_usage":0.82,"memory_usage":0.4}`, 200, []string{`"action":"scale_up"`, `"participating_controllers":["e2e"]`}},
		{"controller", "POST", "/decision", `{"container_id":"` + name + `"}`, 200, []string{`"action":"`, `"reason":"`, `"confidence"`, `"plan"`}},
		{"controller", "GET", "/leader", "", 200, []string{`"is_leader":true`}},
		{"controller", "GET", "/leader?container_id=" + name, "", 200, []string{`"is_leader":true`, `"owner":"e2e"`}},
		{"execution", "POST", "/scale/vertical", vertical(`"direction":"up"`), 200, []string{`"status":"success"`, `"cpu_quota"`, `"cpu_period":100000`, `"memory"`}},
		{"execution", "POST", "/scale/vertical", vertical(`"direction":"up","resources":{"cpu":0.6,"memory":167772160}`), 200, []string{`"cpu_quota":60000`, `"memory":167772160`}},
		{"execution", "POST", "/scale/horizontal", vertical(`"direction":"out","replicas":2`), 409, []string{`"detail":"`, "replicas"}},
		{"execution", "GET", "/history/" + name + "?limit=5", "", 200, []string{`"scaling_type":"vertical"`, `"direction":"up"`, `"old_config":{"cpu_quota"`, `"new_config"`, `"outcome":"applied"`}},
		{"execution", "GET", "/history/nobody-knows-it", "", 200, []string{`"history":[]`}},
		{"execution", "GET", "/health", "", 200, []string{"healthy"}},
		{"execution", "GET", "/metrics", "", 200, []string{"# TYPE effiscale_"}},
		{"execution", "GET", "/openapi.json", "", 200, []string{`"/scale/vertical"`}},

		{"monitor", "GET", "/metrics/nobody-knows-it", "", 404, []string{`"detail":"`}},
		{"monitor", "GET", "/metrics/" + b.id[:11] + "%20", "", 400, []string{`"detail":"`}},
		{"monitor", "GET", "/metrics/..%2f..%2fetc", "", 400, []string{`"detail":"`}},
		{"monitor", "DELETE", "/metrics/" + name, "", 405, []string{`"detail":"`}},
		{"controller", "POST", "/decision", `{"cpu_usage":`, 400, []string{`"detail":"`}},
		{"controller", "POST", "/decision", `{"cpu_usage":7,"memory_usage":0.1}`, 422, []string{"cpu_usage"}},
		{"execution", "POST", "/scale/vertical", vertical(`"direction":"sideways"`), 422, []string{"direction"}},
		{"execution", "POST", "/scale/vertical", vertical(`"direction":"up","resources":{"cpu":-1}`), 422, []string{"cpu"}},
		{"execution", "POST", "/scale/vertical", `{"container_id":"nobody-knows-it","direction":"up"}`, 404, []string{`"detail":"`}},
		{"execution", "POST", "/scale/vertical", vertical(`"x":"` + strings.Repeat("y", 65<<10) + `"`), 413, []string{`"detail":"`}},
	} {
		status, body := d.ask(r)
		ok := status == r.want
		for _, part := range r.holds {
			ok = ok && strings.Contains(body, part)
		}
		if !ok {
			t.Errorf(
				"%s %s %s %.80s: %d, want %d with %q:\n%.600s",
				r.service,
				r.method,
				r.path,
				r.body,
				status,
				r.want,
				r.holds,
				body,
			)
		}
	}
	req, err := http.NewRequest("GET", d.address("monitor")+"/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("a foreign Host header was answered with %s", resp.Status)
	}
	d.stop()
	b.covered(time.Second)
}

// ask makes one call; white space of the JSON does not count.
func (d *daemon) ask(r request) (status int, body string) {
	d.t.Helper()
	var sent io.Reader
	if r.body != "" {
		sent = strings.NewReader(r.body)
	}
	req, err := http.NewRequest(r.method, d.address(r.service)+r.path, sent)
	if err != nil {
		d.t.Fatal(err)
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/") && !json.Valid(b) {
		d.t.Errorf("%s %s: not JSON: %.200s", r.method, r.path, b)
	}
	return resp.StatusCode, string(b)
}
