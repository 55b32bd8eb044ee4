package doctor

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

// daemonAt answers like a daemon that uses the Engine at an address.
func daemonAt(t *testing.T, socket, engine string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Status{Schema: api.Schema, Node: api.NodeView{EngineAddress: engine}})
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// engineChecks are those of the Engine, beside a daemon at api.socket if one answers.
func engineChecks(t *testing.T, cfg config.Config, o Options) []api.Check {
	t.Helper()
	address := askDaemon(t.Context(), cfg.API.Socket).status.Node.EngineAddress
	checks, _, _ := checkEngine(t.Context(), cfg, o.Env, address)
	return checks
}

// TestEngineOfTheDaemon: the doctor asks the Engine of the running daemon, else the one that a
// daemon would find, and prints its address and what named it (row 138).
func TestEngineOfTheDaemon(t *testing.T) {
	own, shell := dockertest.New(t, dockertest.Options{NCPU: 3}), dockertest.New(t, dockertest.Options{NCPU: 7})
	o := Options{Env: []string{"DOCKER_HOST=" + shell.Host()}}
	cfg := config.Defaults()
	cfg.API.Socket = filepath.Join(t.TempDir(), "s")
	checks := engineChecks(t, cfg, o)
	if d := checks[0].Detail; !checks[0].OK || !strings.Contains(d, "7 cores") ||
		!strings.Contains(d, shell.Host()+" (DOCKER_HOST)") {
		t.Errorf("no daemon: %+v", checks[0])
	}
	cfg.Docker.Host = own.Host()
	checks = engineChecks(t, cfg, o)
	if d := checks[0].Detail; !strings.Contains(d, "3 cores") || !strings.Contains(d, "(docker.host)") {
		t.Errorf("configured: %+v", checks[0])
	}
	cfg.Docker.Host = ""
	daemonAt(t, cfg.API.Socket, own.Host()+" (docker.host)")
	checks = engineChecks(t, cfg, o)
	if d := checks[0].Detail; !strings.Contains(d, "3 cores") || !strings.Contains(d, "of the running daemon, from docker.host") {
		t.Errorf("daemon: %+v", checks[0])
	}
	if i := slices.IndexFunc(checks, func(c api.Check) bool { return c.Name == "engine address" }); i < 0 ||
		!strings.Contains(checks[i].Detail, shell.Host()) {
		t.Errorf("the shell's other Engine is not named: %+v", checks)
	}
	o.Env = []string{"DOCKER_HOST=ssh://far"}
	checks = engineChecks(t, cfg, o)
	if !checks[0].OK {
		t.Errorf("the daemon's Engine was not asked: %+v", checks[0])
	}
	cfg.API.Socket = filepath.Join(t.TempDir(), "none")
	checks = engineChecks(t, cfg, o)
	if checks[0].OK || !strings.Contains(checks[0].Detail, "starts no program") {
		t.Errorf("ssh: %+v", checks[0])
	}
}

// TestDoctorOfRefusals names each request that is refused, and the engine that is not Docker's
// (row 137).
func TestDoctorOfRefusals(t *testing.T) {
	ask := func(o dockertest.Options, op string) []api.Check {
		e := dockertest.New(t, o)
		e.Run(dockertest.Spec{Name: "web"})
		if op != "" {
			e.Inject(dockertest.Fault{Op: op, Status: 403, Body: "<h1>403 Forbidden</h1>", Type: "text/html"})
		}
		cfg := config.Defaults()
		cfg.API.Socket = filepath.Join(t.TempDir(), "s")
		checks := engineChecks(t, cfg, Options{Env: []string{"DOCKER_HOST=" + e.Host()}})
		return checks
	}
	for op, request := range map[string]string{
		dockertest.Ping: "GET /_ping", dockertest.Info: "GET /info", dockertest.List: "GET /containers/json",
		dockertest.Inspect: "GET /containers/ID/json", dockertest.UpdateC: "POST /containers/ID/update",
		dockertest.Stats: "GET /containers/ID/stats",
	} {
		checks := ask(dockertest.Options{}, op)
		if !checks[0].OK || len(checks) != 2 || checks[1].OK || !strings.HasPrefix(checks[1].Detail, request) ||
			!strings.Contains(checks[1].Remedy, "allow the request") {
			t.Errorf("%s: %+v", op, checks)
		}
	}
	if checks := ask(dockertest.Options{}, ""); len(checks) != 2 || !checks[1].OK {
		t.Errorf("all is allowed: %+v", checks)
	}
	checks := ask(dockertest.Options{Podman: true}, "")
	if !strings.Contains(checks[0].Detail, "Podman Engine") || len(checks) != 2 ||
		!strings.Contains(checks[1].Detail, "no limit is changed") ||
		!strings.Contains(checks[1].Remedy, "does not have the call") {
		t.Errorf("Podman: %+v", checks)
	}
	checks = ask(dockertest.Options{Driver: "none"}, "")
	if len(checks) != 2 || !strings.Contains(checks[1].Remedy, "run the Engine as root") {
		t.Errorf("rootless: %+v", checks)
	}
}

// Row 104: a container that cannot be started again is named.
func TestDoctorOfStarts(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	limits := knowledge.Limits{Memory: 64 * knowledge.MiB, Reservation: 128 * knowledge.MiB}
	e.Run(dockertest.Spec{Name: "good"})
	e.Run(dockertest.Spec{Name: "bad", Limits: limits})
	cfg := config.Defaults()
	cfg.API.Socket = filepath.Join(t.TempDir(), "s")
	checks := engineChecks(t, cfg, Options{Env: []string{"DOCKER_HOST=" + e.Host()}})
	found := 0
	for _, c := range checks {
		if c.Name == "start" && !c.OK && strings.HasPrefix(c.Detail, "bad cannot be started again") {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%+v", checks)
	}
}
