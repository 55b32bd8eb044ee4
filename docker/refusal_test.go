package docker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

// refusers are the answers of what stands before an Engine's socket.
func refusers() map[string]dockertest.Fault {
	page := "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>"
	return map[string]dockertest.Fault{
		"authorization plugin":  {Status: 403, Message: "authorization denied by plugin opa: not allowed"},
		"proxy with a page":     {Status: 403, Body: page, Type: "text/html"},
		"proxy of methods":      {Status: 405, Body: "Method Not Allowed\n", Type: "text/plain"},
		"proxy that hides":      {Status: 404, Body: "404 page not found\n", Type: "text/plain"},
		"proxy with JSON":       {Status: 404, Message: "page not found"},
		"proxy with a password": {Status: 401, Message: "unauthorized"},
	}
}

// TestRow137Refusals: a request that is refused is no outage. It is named with what to allow,
// the others go on, and it is forgotten when it is allowed again.
func TestRow137Refusals(t *testing.T) {
	t.Parallel()
	for name, fault := range refusers() {
		for op, request := range map[string]string{
			dockertest.Ping: "GET /_ping", dockertest.Info: "GET /info", dockertest.List: "GET /containers/json",
			dockertest.Inspect: "GET /containers/ID/json", dockertest.Stats: "GET /containers/ID/stats",
			dockertest.UpdateC: "POST /containers/ID/update", dockertest.Events: "GET /events", dockertest.Version: "",
		} {
			t.Run(name+"/"+op, func(t *testing.T) {
				t.Parallel()
				refusedOnce(t, fault, op, request)
			})
		}
	}
}

func refusedOnce(t *testing.T, fault dockertest.Fault, op, request string) {
	e := dockertest.New(t, dockertest.Options{})
	id := e.Run(dockertest.Spec{Name: "web", Limits: knowledge.Limits{CPU: knowledge.OneCPU}})
	fault.Op = op
	e.Inject(fault)
	c := open(t, e, func(o *docker.Options) { o.Cooldown = time.Hour })
	watch(t, c, &watched{})
	calls := map[string]error{}
	var s knowledge.Sample
	for range 7 { // more than open the circuit breaker
		_, calls[dockertest.Info] = c.Host(t.Context())
		_, calls[dockertest.List] = c.List(t.Context())
		_, calls[dockertest.Inspect] = c.Inspect(t.Context(), id)
		calls[dockertest.Stats] = c.Stats(t.Context(), id, &s)
		calls[dockertest.UpdateC] = c.UpdateShares(t.Context(), id, 512)
	}
	for of, err := range calls {
		if k, _ := docker.KindOf(err); of == op && op != dockertest.Info && k != docker.KindDenied || of != op && err != nil {
			t.Errorf("%s: %v", of, err)
		}
	}
	if up, _, last := c.State(); !up {
		t.Errorf("taken for an outage: %s", last)
	}
	if h, err := c.Host(t.Context()); err != nil || h.CPUs < 1 || h.Memory < 1 {
		t.Errorf("host %+v, %v", h, err)
	}
	named := func() bool {
		return slices.ContainsFunc(c.Refusals(), func(s string) bool {
			return strings.HasPrefix(s, request+": ") && strings.Contains(s, fmt.Sprint(fault.Status)) &&
				strings.Contains(s, "allow "+request) && !strings.Contains(s, "<")
		})
	}
	if request != "" {
		eventually(t, "the refusal is named", named)
	}
	if n := len(c.Refusals()); n > 1 || request == "" && n > 0 {
		t.Errorf("refused: %q", c.Refusals())
	}
	if got := c.UpdateRefused() != ""; got != (op == dockertest.UpdateC) {
		t.Errorf("updates refused: %t", got)
	}
	e.Heal()
	if op == dockertest.Ping {
		return // asked again with the next connection
	}
	eventually(t, "allowed again", func() bool {
		_, _ = c.Host(t.Context())
		_, _ = c.List(t.Context())
		_, _ = c.Inspect(t.Context(), id)
		_ = c.Stats(t.Context(), id, &s)
		return len(c.Refusals()) == 0
	})
}

// TestRow137Podman: another engine is named, and not asked to change anything.
func TestRow137Podman(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{Podman: true})
	c := open(t, e)
	h, err := c.Host(t.Context())
	if err != nil || !strings.HasPrefix(h.EngineVersion, "Podman Engine 20.10") {
		t.Errorf("host %+v, %v", h, err)
	}
	if why := c.UpdateRefused(); !strings.Contains(why, "Podman Engine") || !strings.Contains(why, "does not support") {
		t.Errorf("updates refused: %q", why)
	}
}

// TestRow137Rootless: an Engine without control groups takes limits and ignores them.
func TestRow137Rootless(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{Driver: "none"})
	c := open(t, e)
	if _, err := c.Host(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why := c.UpdateRefused(); !strings.Contains(why, "ignores limits") {
		t.Errorf("updates refused: %q", why)
	}
}
