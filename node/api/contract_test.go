package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// TestContract holds every line of the wire contract against a server.
func TestContract(t *testing.T) {
	const short = "0123456789ab"
	metric := func(ref string) string {
		return `{"container_id":"` + ref + `","cpu_usage":0.82,"memory_usage":0.4,"network_rx":1,"network_tx":2,"disk_read":3,"disk_write":4,
			"timestamp":"2026-03-01T10:30:00Z","cpu_limit":1,"cpu_utilization":0.82,"throttled_ratio":0,"memory_working_set":4194304,"memory_limit":null,
			"cpu_pressure":null,"memory_pressure":null,"io_pressure":null,"pids":3,"oom_kills":0}`
	}
	scaled := `{"status":"success","result":{"cpu_quota":150000,"cpu_period":100000,"memory":268435456}}`
	h := serve(t)
	for _, c := range []struct {
		service, call, body string
		want                string
	}{
		{Monitor, "GET /", "", `{"status":"running","service":"Container Monitoring"}`},
		{Monitor, "GET /metrics/web", "", metric("web")},
		{Monitor, "GET /metrics/" + short, "", metric(short)},
		{Monitor, "GET /metrics/" + someID, "", metric(someID)},
		{Monitor, "GET /metrics/web/history", "", `{"container_id":"web","time_window":300,"metrics":[],"statistics":{}}`},
		{Monitor, "GET /metrics/web/history?time_window=60", "",
			`{"container_id":"web","time_window":60,"metrics":[],"statistics":{}}`},
		{Monitor, "POST /monitor/stop/web", "", `{"status":"warning","message":"Not monitoring"}`},
		{Monitor, "POST /monitor/start/web", "", `{"status":"success","message":"Monitoring started"}`},
		{Monitor, "POST /monitor/start/web", "", `{"status":"warning","message":"Already monitoring"}`},
		{Monitor, "POST /monitor/stop/web", "", `{"status":"success","message":"Monitoring stopped"}`},
		{Monitor, "GET /predictions/web", "",
			`{"container_id":"web","prediction_window":300,"predictions":{"cpu_usage":[0.1,0.2],"memory_usage":[]}}`},
		{Monitor, "GET /predictions/web?prediction_window=60", "",
			`{"container_id":"web","prediction_window":60,"predictions":{"cpu_usage":[0.1,0.2],"memory_usage":[]}}`},
		{Monitor, "GET /health", "", `{"status":"healthy","controller_id":"alpha","zone":"default"}`},

		{Controller, "GET /health", "", `{"status":"healthy","controller_id":"alpha","zone":"default"}`},
		{Controller, "POST /register", `{"controller_id":"c2","endpoint":"10.0.0.2:8002"}`, `{"status":"registered"}`},
		{Controller, "GET /neighbors", "", `{"neighbors":{}}`},
		{Controller, "POST /decision", `{"cpu_usage":0.82,"memory_usage":0.4}`,
			`{"action":"scale_up","timestamp":"<time>","participating_controllers":["alpha"]}`},
		{Controller, "POST /decision", `{"container_id":"web"}`, `{"action":"scale_up","timestamp":"<time>","participating_controllers":["alpha"],"reason":"throttled","confidence":0.9,
			"plan":[{"container":"web","service":"","mark":"~","resource":"","from":0,"to":0,"why":""}]}`},
		{Controller, "GET /leader", "", `{"is_leader":true}`},
		{Controller, "GET /leader?container_id=web", "", `{"is_leader":true,"owner":"alpha"}`},

		{Execution, "GET /health", "", `{"status":"healthy","controller_id":"alpha","zone":"default"}`},
		{Execution, "POST /scale/vertical", `{"container_id":"web","direction":"up"}`, scaled},
		{Execution, "POST /scale/vertical", `{"container_id":"web","direction":"down","resources":null}`, scaled},
		{Execution, "POST /scale/vertical",
			`{"container_id":"web","direction":"down","resources":{"cpu":null,"memory":268435456}}`, scaled},
		{Execution, "POST /scale/vertical",
			`{"container_id":"web","direction":"up","resources":{"cpu":1.5,"memory":268435456}}`, scaled},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out","replicas":1}`,
			`{"status":"success","result":{"new_containers":["` + someID + `"]}}`},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"in","replicas":1}`,
			`{"status":"success","result":{"removed_containers":[]}}`},
		{Execution, "GET /history/web", "", `{"history":[{"container_id":"web","timestamp":"2026-03-01T10:30:00Z","scaling_type":"vertical","direction":"up",
			"old_config":{"cpu_quota":100000,"cpu_period":100000,"memory":1048576},"new_config":{"cpu_quota":150000,"cpu_period":100000,"memory":2097152},"outcome":"applied","reason":"asked for"}]}`},
		{Execution, "GET /history/nobody?limit=5", "", `{"history":[]}`},
	} {
		t.Run(c.service+" "+c.call, func(t *testing.T) {
			method, path, _ := strings.Cut(c.call, " ")
			status, body := h.ask(t, c.service, method, path, c.body)
			if status != 200 {
				t.Fatalf("status %d: %s", status, body)
			}
			sameJSON(t, body, c.want)
		})
	}
	// Clients of the original service multiply a limit by 1.5 and send what they get.
	for _, memory := range []string{"268435456.0", "2.68435456e8", "268435456.9"} {
		if status, body := h.ask(t, Execution, "POST", "/scale/vertical",
			`{"container_id":"web","direction":"up","resources":{"memory":`+memory+`}}`); status != 200 {
			t.Errorf("memory %s: %d %s", memory, status, body)
		}
	}
	float := ScaleRequest{Container: "web", Direction: "up", Memory: 256 << 20, By: "api 127.0.0.1"}
	want := []ScaleRequest{
		{Container: "web", Direction: "up", By: "api 127.0.0.1"},
		{Container: "web", Direction: "down", By: "api 127.0.0.1"},
		{Container: "web", Direction: "down", Memory: 256 << 20, By: "api 127.0.0.1"},
		{Container: "web", Direction: "up", CPU: 1.5, Memory: 256 << 20, By: "api 127.0.0.1"},
		float, float, float,
	}
	if got := fmt.Sprint(h.d.scales); got != fmt.Sprint(want) {
		t.Errorf("the daemon was asked %s, want %v", got, want)
	}
}

func TestContractStatistics(t *testing.T) {
	h := serve(t)
	for _, v := range []float64{1, 2, 3, 4} {
		h.d.metrics = append(h.d.metrics, Metric{CPUUsage: v, MemoryUsage: 0.5, Timestamp: someTime})
	}
	_, body := h.ask(t, Monitor, "GET", "/metrics/web/history?time_window=10", "")
	_, stats, _ := strings.Cut(body, `"statistics":`)
	sameJSON(t, stats[:strings.LastIndex(stats, "}")], fmt.Sprintf(
		`{"cpu":{"mean":2.5,"max":4,"min":1,"std":%v},"memory":{"mean":0.5,"max":0.5,"min":0.5,"std":0}}`, math.Sqrt(1.25)))
	if n := strings.Count(body, `"container_id":"web"`); n != 5 {
		t.Errorf("the reference is echoed %d times, want 5: %s", n, body)
	}
	if got := h.d.asked(); len(got) != 1 || got[0] != "metrics 10s" {
		t.Errorf("asked %v", got)
	}
}

func TestContractPredictionsNeedData(t *testing.T) {
	h := serve(t)
	h.d.few = true
	_, body := h.ask(t, Monitor, "GET", "/predictions/web", "")
	sameJSON(t, body, `{"status":"insufficient_data"}`)
}

// TestRuleOfThumb holds the original's rule: first match, strict.
func TestRuleOfThumb(t *testing.T) {
	for _, c := range []struct {
		cpu, memory float64
		want        string
	}{
		{0.91, 0, "scale_out"}, {0, 0.91, "scale_out"}, {1, 1, "scale_out"},
		{0.9, 0.9, "scale_up"}, {0.76, 0, "scale_up"}, {0.1, 0.76, "scale_up"},
		{0.75, 0.75, "no_action"}, {0.5, 0.1, "no_action"}, {0.4, 0.1, "no_action"}, {0.4, 0.4, "no_action"},
		{0.29, 0.29, "scale_in"}, {0, 0, "scale_in"},
		{0.3, 0.29, "scale_down"}, {0.3, 0.3, "scale_down"}, {0.39, 0.1, "scale_down"},
	} {
		if got := ruleOfThumb(c.cpu, c.memory); got != c.want {
			t.Errorf("cpu %v memory %v: %s, want %s", c.cpu, c.memory, got, c.want)
		}
	}
}

// TestContractErrors: row 36 (numbers that are none), row 55 (references) and
// the error statuses of the contract. Nothing of it reaches the daemon's hands.
func TestContractErrors(t *testing.T) {
	h := serve(t)
	vertical := func(rest string) string { return `{"container_id":"web","direction":"up",` + rest + `}` }
	for _, c := range []struct {
		service, call, body string
		status              int
		says                string
	}{
		{Monitor, "GET /metrics/nobody", "", 404, "effiscale status"},
		{Monitor, "GET /nothing", "", 404, "/openapi.json"},
		{Monitor, "GET /metrics/web/history?time_window=NaN", "", 422, "time_window"},
		{Monitor, "GET /metrics/web/history?time_window=-1", "", 422, "time_window"},
		{Monitor, "GET /metrics/web/history?time_window=0", "", 422, "time_window"},
		{Monitor, "GET /metrics/web/history?time_window=1e308", "", 422, "time_window"},
		{Monitor, "GET /metrics/web/history?time_window=9223372036854775808", "", 422, "time_window"},
		{Monitor, "GET /predictions/web?prediction_window=Inf", "", 422, "prediction_window"},
		{Execution, "GET /history/web?limit=-5", "", 422, "limit"},
		{Execution, "GET /history/web?limit=x", "", 422, "limit"},
		{Execution, "POST /scale/vertical", `{"container_id":`, 400, "JSON"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"cpu":NaN}`), 400, "JSON"},
		{Execution, "POST /scale/vertical", strings.Repeat("[", 60000), 400, "JSON"},
		{Execution, "POST /scale/vertical", `[]`, 422, "object"},
		{Execution, "POST /scale/vertical", `null`, 422, "body"},
		{Execution, "POST /scale/vertical", `{}`, 422, "container_id"},
		{Execution, "POST /scale/vertical", `{"container_id":"web"}`, 422, "direction"},
		{Execution, "POST /scale/vertical", `{"container_id":"web","direction":"sideways"}`, 422, "direction"},
		{Execution, "POST /scale/vertical", `{"container_id":7,"direction":"up"}`, 422, "container_id"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"cpu":"1"}`), 422, "resources.cpu"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"cpu":-1}`), 422, "resources.cpu"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"cpu":0}`), 422, "resources.cpu"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"cpu":1e300}`), 422, "resources.cpu"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"cpu":1e999}`), 422, "body.resources.cpu: must be a number that fits 64 bits"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"cpu":1,"CPU":-5}`), 422, "cpu"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"memory":-1}`), 422, "resources.memory"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"memory":0.5}`), 422, "memory"},
		{Execution, "POST /scale/vertical", vertical(`"resources":{"memory":9223372036854775808}`), 422, "resources.memory"},
		{Execution, "POST /scale/vertical", `{"container_id":"../../etc","direction":"up"}`, 400, "not a container"},
		{Execution, "POST /scale/vertical", `{"container_id":"nobody","direction":"up"}`, 404, "nobody"},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out"}`, 422, "replicas"},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out","replicas":0}`, 422, "replicas"},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out","replicas":1000000}`, 422, "replicas"},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"up","replicas":1}`, 422, "direction"},
		{Controller, "POST /decision", `{}`, 422, "cpu_usage"},
		{Controller, "POST /decision", `{"cpu_usage":0.5}`, 422, "memory_usage"},
		{Controller, "POST /decision", `{"cpu_usage":-0.1,"memory_usage":0.5}`, 422, "cpu_usage"},
		{Controller, "POST /decision", `{"cpu_usage":0.1,"memory_usage":1.5}`, 422, "memory_usage"},
		{Controller, "POST /decision", `{"cpu_usage":0.1,"memory_usage":0.5,"CPU_USAGE":77}`, 422, "cpu_usage"},
		{Controller, "POST /decision", `{"container_id":"a/b"}`, 400, "not a container"},
		{Controller, "POST /register", `{"controller_id":"c2","endpoint":"nowhere"}`, 422, "endpoint"},
		{Controller, "POST /register", `{"controller_id":"c2","endpoint":"h:0"}`, 422, "endpoint"},
		{Controller, "POST /register", `{"controller_id":"a\u0000b","endpoint":"h:1"}`, 422, "controller_id"},
		{Controller, "POST /register", ``, 400, "body"},
		{Controller, "GET /leader?container_id=..", "", 400, "not a container"},
	} {
		t.Run(c.call+" "+c.body[:min(len(c.body), 60)], func(t *testing.T) {
			method, path, _ := strings.Cut(c.call, " ")
			status, body := h.ask(t, c.service, method, path, c.body)
			if status != c.status {
				t.Errorf("status %d, want %d: %s", status, c.status, body)
			}
			isProblem(t, body, c.says)
		})
	}
	for _, call := range h.d.asked() {
		if !strings.Contains(call, "nobody") {
			t.Errorf("the daemon was asked %q", call)
		}
	}
}

// TestContractDaemonErrors gives each kind of refusal its status.
func TestContractDaemonErrors(t *testing.T) {
	h := serve(t)
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{Errorf(KindRefused, "at-max: requested 3 cores, the policy's maximum is 2"), 409, "maximum"},
		{Errorf(KindUnavailable, "the Engine has not answered for 12 s"), 503, "Engine"},
		{Errorf(KindTimeout, "the Engine did not answer"), 504, "Engine"},
		{context.DeadlineExceeded, 504, "in time"},
		{Errorf(KindInternal, "the store is broken"), 500, "store"},
		{errors.New(strings.Repeat("long ", 1000)), 500, "…"},
		{fmt.Errorf("cannot scale: %w", Errorf(KindNotFound, "gone")), 404, "gone"},
	} {
		h.d.mu.Lock()
		h.d.fail = c.err
		h.d.mu.Unlock()
		status, body := h.ask(t, Execution, "POST", "/scale/vertical", `{"container_id":"web","direction":"up"}`)
		if status != c.status {
			t.Errorf("%v: status %d, want %d", c.err, status, c.status)
		}
		isProblem(t, body, c.says)
	}
}

// TestContractHungDaemon: a call has an end.
func TestContractHungDaemon(t *testing.T) {
	h := serve(t, func(s *Server) {
		s.limits.handle = 50 * time.Millisecond
		for _, d := range s.listeners[:3] {
			d.handler, _ = s.serviceHandler(d.name)
		}
	})
	h.d.hang = true
	status, body := h.ask(t, Monitor, "GET", "/metrics/web", "")
	if status != 504 {
		t.Errorf("status %d", status)
	}
	isProblem(t, body, "in time")
}

// TestContractNoNumberForJSON: row 36, NaN in an answer is an error, never half a body.
func TestContractNoNumberForJSON(t *testing.T) {
	h := serve(t)
	h.d.metrics = []Metric{{CPUUsage: math.NaN()}}
	status, body := h.ask(t, Monitor, "GET", "/metrics/web/history", "")
	if status != 500 {
		t.Errorf("status %d", status)
	}
	isProblem(t, body, "log")
}

// TestContractHealthDegraded: row 50, health answers 200 and says what is degraded.
func TestContractHealthDegraded(t *testing.T) {
	h := serve(t)
	h.d.health = "the disk is full: nothing is remembered"
	status, body := h.ask(t, Execution, "GET", "/health", "")
	if status != 200 {
		t.Errorf("status %d", status)
	}
	sameJSON(
		t,
		body,
		`{"status":"degraded","controller_id":"alpha","zone":"default","detail":"the disk is full: nothing is remembered"}`,
	)
}

func TestContractIdempotencyKey(t *testing.T) {
	h := serve(t)
	h.ask(t, Execution, "POST", "/scale/vertical", `{"container_id":"web","direction":"up"}`, "Idempotency-Key", "k1")
	h.ask(t, Execution, "POST", "/scale/horizontal", `{"container_id":"web","direction":"out","replicas":1}`,
		"Idempotency-Key", "k2")
	if h.d.scales[0].Key != "k1" || h.d.replicas[0].Key != "k2" {
		t.Errorf("keys %+v %+v", h.d.scales, h.d.replicas)
	}
	status, body := h.ask(t, Execution, "POST", "/scale/vertical", `{"container_id":"web","direction":"up"}`,
		"Idempotency-Key", strings.Repeat("k", 200))
	if status != 422 {
		t.Errorf("status %d", status)
	}
	isProblem(t, body, "Idempotency-Key")
	asked := len(h.d.asked())
	for keys, says := range map[string]string{
		"Idempotency-Key: k3\r\nIdempotency-Key: k4\r\n": "Idempotency-Key: is given 2 times",
		"Idempotency-Key: k3\r\nidempotency-key: k3\r\n": "Idempotency-Key: is given 2 times",
		"Idempotency-Key:\r\n":                           "Idempotency-Key: is empty",
	} {
		const up = `{"container_id":"web","direction":"up"}`
		status, body := h.raw(t, Execution, fmt.Sprintf("POST /scale/vertical HTTP/1.1\r\nHost: %s\r\n"+
			"Content-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", h.Addr(Execution), keys, len(up), up))
		if status != 422 {
			t.Errorf("%q: status %d", keys, status)
		}
		isProblem(t, body, says)
	}
	if n := len(h.d.asked()); n != asked {
		t.Errorf("the daemon was asked %d times, want %d", n, asked)
	}
}

// TestOpenAPI holds the description of each service against a golden file.
func TestOpenAPI(t *testing.T) {
	h := serve(t)
	for _, service := range []string{Monitor, Controller, Execution} {
		status, body := h.ask(t, service, "GET", "/openapi.json", "")
		if status != 200 || !strings.Contains(body, `"openapi": "3.1.0"`) {
			t.Errorf("%s: status %d", service, status)
		}
		golden(t, "openapi-"+service+".json", body+"\n")
	}
}
