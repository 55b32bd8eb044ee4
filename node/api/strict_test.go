package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestRow129Strict: row 129, an unknown, doubled, wrong or null field, and an unknown
// parameter, are named with what is allowed, and nothing is done.
func TestRow129Strict(t *testing.T) {
	h := serve(t)
	vertical := func(resources string) string {
		return `{"container_id":"web","direction":"down","resources":` + resources + `}`
	}
	const scale, allowed = "POST /scale/vertical", "allowed: cpu, memory"
	for _, c := range []struct {
		service, call, body string
		status              int
		says                string
	}{
		{Execution, scale, vertical(`{"cpus":0.29}`), 422, "body.resources.cpus: unknown field; " + allowed},
		{Execution, scale, vertical(`{"CPU":0.29}`), 422, "body.resources.CPU: unknown field; " + allowed},
		{Execution, scale, vertical(`{"cpu":1,"cpu":0.1}`), 422, "body.resources.cpu: is given twice"},
		{Execution, scale, vertical(`{}`), 422, "body.resources: is empty"},
		{Execution, scale, vertical(`{"cpu":null,"memory":null}`), 422, "body.resources: is empty"},
		{Execution, scale, vertical(`{"memory":-1}`), 422, "resources.memory"},
		{Execution, scale, vertical(`{"memory":"1g"}`), 422, "resources.memory"},
		{Execution, scale, vertical(`{"memory":1e30}`), 422, "resources.memory: expected number <= 1125899906842624"},
		{Execution, scale, vertical(`{"memory":-268435456.0}`), 422, "resources.memory: expected number >= 1"},
		{Execution, scale, vertical(`{"memory":0.9}`), 422, "resources.memory: expected number >= 1"},
		{Execution, scale, vertical(`{"memory":true}`), 422, "resources.memory: must be a number"},
		{Execution, scale, vertical(`{"memory":"268435456.0"}`), 422, "resources.memory: must be a number"},
		{Execution, scale, vertical(`{"memory":1e400}`), 422, "resources.memory: must be a number that fits 64 bits"},
		{Execution, scale, vertical(`{"memory":NaN}`), 400, "JSON"},
		{Execution, scale, vertical(`{"cpu":1e400}`), 422, "resources.cpu: must be a number that fits 64 bits"},
		{Execution, scale, vertical(`{"cpu":true}`), 422, "resources.cpu: must be a number"},
		{Execution, scale, `{"container_id":["web"],"direction":"up"}`, 422, "container_id: must be text"},
		{Execution, scale, vertical(`"0.29"`), 422, "resources: must be an object"},
		{Execution, scale, vertical(`{"cpu":[1]}`), 422, "resources.cpu"},
		{Execution, scale, vertical(`[]`), 422, "resources"},
		{Execution, scale, " \n " + vertical("\t { \"cpus\" :\n 0.29 } "), 422, "body.resources.cpus: unknown field"},
		{Execution, scale, vertical(" { \"cpu\" :\n \"x\" } "), 422, "body.resources.cpu: must be a number"},
		{Execution, scale, `{"container_id":"web","direction":"up","resource":{"cpu":1}}`, 422,
			"body.resource: unknown field; allowed: container_id, direction, resources"},
		{Execution, scale, `{"container_id":"web","direction":"up","direction":"down"}`, 422, "direction: is given twice"},
		{Execution, scale, `{"container_id":null,"direction":"up"}`, 422, "container_id: must not be null"},
		{Execution, scale, `{"container_id":"web","direction":null}`, 422, "direction: must not be null"},
		{Execution, scale, `{"container_id":"web","direction":"up"} {}`, 400, "JSON"},
		{Execution, scale, `{"container_id":"web","direction":"up"},`, 400, "JSON"},
		{Execution, scale + "?dry_run=true", `{"container_id":"web","direction":"up"}`, 422, "query.dry_run"},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out","replica":2}`, 422,
			"body.replica: unknown field; allowed: container_id, direction, replicas"},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out","replicas":null}`, 422, "replicas"},
		{Execution, "POST /scale/horizontal", `{"container_id":"web","direction":"out","replicas":-2}`, 422, "replicas"},
		{Execution, "GET /history/web?limits=5", "", 422, "query.limits: unknown parameter; allowed: limit"},
		{Execution, "GET /history/web?limit=5&limit=6", "", 422, "query.limit: is given 2 times"},
		{Execution, "GET /history/web?time_window=5", "", 422, "query.time_window"},
		{Execution, "GET /history/web?limit=", "", 422, "query.limit: is empty"},
		{Execution, "GET /history/web?limit", "", 422, "query.limit: is empty"},
		{Execution, "GET /history/web?limit=%zz", "", 400, "query"},
		{Controller, "POST /decision", `{"cpu":0.5,"memory":0.5}`, 422,
			"body.cpu: unknown field; allowed: cpu_usage, memory_usage, container_id"},
		{Controller, "POST /register", `{"controller_id":"c2","endpoint":"h:1","port":1}`, 422, "body.port"},
		{Controller, "GET /leader?container_id=", "", 422, "query.container_id: is empty"},
		{Controller, "GET /leader?container=web", "", 422, "query.container: unknown parameter; allowed: container_id"},
		{Monitor, "GET /metrics/web/history?window=60", "", 422, "query.window: unknown parameter; allowed: time_window"},
		{Monitor, "GET /metrics/web/history?time_window=", "", 422, "query.time_window: is empty"},
		{Monitor, "GET /metrics/web/history?time_window=1e9", "", 422, "query.time_window"},
		{Monitor, "GET /metrics/web/history?time_window=3000000", "", 422, "query.time_window: expected number <= 2678400"},
		{Monitor, "GET /predictions/web?time_window=60", "", 422, "allowed: prediction_window"},
		{Monitor, "GET /metrics/web?time_window=60", "", 422, "none is allowed here"},
		{Monitor, "POST /monitor/stop/web", `{"for":"1h"}`, 422, "body.for: unknown field; none is allowed here"},
		{Monitor, "POST /monitor/stop/web?for=1h", "", 422, "query.for"},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		status, body := h.ask(t, c.service, method, path, c.body)
		if status != c.status {
			t.Errorf("%s %s: status %d, want %d", c.call, c.body, status, c.status)
		}
		isProblem(t, body, c.says)
	}
	if got := h.d.asked(); len(got) > 0 {
		t.Errorf("the daemon was asked %v", got)
	}
	for _, body := range []string{"", "{}"} {
		if status, said := h.ask(t, Monitor, "POST", "/monitor/start/web", body); status != 200 {
			t.Errorf("body %q: %d %s", body, status, said)
		}
	}
}

// TestRow129StrictSocket: the same on the socket.
func TestRow129StrictSocket(t *testing.T) {
	h := serve(t)
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Addr("socket"))
	}}}
	t.Cleanup(c.CloseIdleConnections)
	for _, q := range []struct {
		call, body string
		status     int
		says       string
	}{
		{"POST /scale", `{"container":"web","cpus":1}`, 422, "body.cpus: unknown field; allowed: container, direction, cpu"},
		{"POST /scale", `{"container":"web","CPU":1}`, 422, "body.CPU: unknown field"},
		{"POST /scale", `{"container":"web","cpu":1,"cpu":2}`, 422, "body.cpu: is given twice"},
		{"POST /scale", `{"container":"web","cpu":-1}`, 422, "cpu"},
		{"POST /scale", `{"container":"web","memory":1.5}`, 422, "memory"},
		{"POST /scale?dry_run=true", `{"container":"web","cpu":1}`, 422, "query.dry_run"},
		{"POST /restore", `{"container":null}`, 422, "body.container: must not be null"},
		{"POST /restore", `null`, 422, "body: must be an object"},
		{"POST /restore", `[]`, 422, "body: must be an object"},
		{"POST /pause", `{"service":"web","for":"1h"}`, 422, "body.for: must be a whole number"},
		{"POST /pause", `{"service":"web","for":1e30}`, 422, "body.for: must be a whole number"},
		{"POST /pause", `{"service":"web","for":99999999999999999999}`, 422, "out of range"},
		{"POST /pause", `{"service":"web","resume":"yes"}`, 422, "body.resume: must be true or false"},
		{"POST /join", `{"addresses":[1]}`, 422, "body.addresses.0: number is of another kind"},
		{"POST /join", `{"addresses":"h:1"}`, 422, "body.addresses: must be a list"},
		{"POST /reload", `{"file":"x"}`, 422, "body.file"},
		{"GET /plan?names=web", "", 422, "query.names: unknown parameter; allowed: name, all_hosts"},
		{"GET /status?all=1", "", 422, "query.all"},
		{"GET /records/web?limit=1&limit=2", "", 422, "query.limit"},
		{"GET /records/web?limit=", "", 422, "query.limit: is empty"},
	} {
		method, path, _ := strings.Cut(q.call, " ")
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://effiscale"+path, strings.NewReader(q.body))
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != q.status {
			t.Errorf("%s %s: status %d, want %d", q.call, q.body, resp.StatusCode, q.status)
		}
		isProblem(t, string(said), q.says)
	}
	if got := h.d.asked(); len(got) > 0 {
		t.Errorf("the daemon was asked %v", got)
	}
}
