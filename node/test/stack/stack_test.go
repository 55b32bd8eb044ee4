// Package stack runs a stack of real software (nginx, Node.js, Python, PostgreSQL with
// pgbench, Redis with BGSAVE, a JVM) and thirty idle sidecars under one daemon, with
// README's labels, and prints what each workload needed and what it was given.
//
//	EFFISCALE_STACK=1h go test -v -count=1 -timeout 2h ./node/test/stack
//
// image.sh builds the image once for a Docker Engine; EFFISCALE_STACK_IMAGE names another.
package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

const (
	sidecars = 30
	// perHour is the most actions of an idle container in an hour.
	perHour = 20
	every   = 2 * time.Second
	// busy and calm alternate for each workload.
	busy, calm = 2 * time.Minute, time.Minute
)

// workload is one managed container: its command, its limits and labels as in a Compose
// file, and the load on it.
type workload struct {
	name, command string
	cpus          float64
	memory        int64 // MiB
	labels        map[string]string
	rate          int    // HTTP requests a second while busy
	bench         string // first argument of bench.sh
}

func workloads() []workload {
	bounds := func(class, memory string) map[string]string {
		return map[string]string{"effiscale.cpu": "0.1..1.5", "effiscale.memory": memory, "effiscale.class": class}
	}
	all := []workload{
		{name: "nginx", command: "/opt/web.sh", cpus: 0.5, memory: 128, labels: bounds("serving", "64MiB..512MiB"), rate: 40},
		{name: "node", command: "node /opt/app.js", cpus: 0.5, memory: 192, labels: bounds("serving", "96MiB..1GiB"), rate: 40},
		{name: "python", command: "/opt/app.py", cpus: 0.5, memory: 128, labels: bounds("serving", "64MiB..512MiB"), rate: 20},
		{name: "postgres", command: "/opt/db.sh", cpus: 0.75, memory: 384, labels: bounds("database", "128MiB..2GiB"), bench: "db"},
		{name: "redis", command: "redis-server --protected-mode no --dir /tmp", cpus: 0.3, memory: 256,
			labels: bounds("cache", "64MiB..1GiB"), bench: "redis"},
		{name: "jvm", command: "java -cp /opt App", cpus: 0.6, memory: 512, labels: bounds("jvm", "256MiB..1GiB"), rate: 40},
	}
	for i := range sidecars {
		all = append(all, workload{name: fmt.Sprintf("sidecar-%02d", i), command: "sleep infinity", cpus: 0.1, memory: 48})
	}
	return all
}

func TestStack(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("EFFISCALE_STACK"))
	if err != nil {
		t.Skip("LEFT OUT: an hour of real software; EFFISCALE_STACK names no duration such as 1h")
	}
	s := newStack(t)
	var all []*member
	for _, w := range workloads() {
		all = append(all, s.run(w))
	}
	s.startDaemon()
	for i, m := range all {
		s.load(m, i)
	}
	pid, began := s.daemon.Process.Pid, time.Now()
	engine, daemon := observer.EngineTime(t), observer.ProcessTime(t, pid)
	for tick := time.NewTicker(every); time.Since(began) < length; <-tick.C {
		for _, m := range all {
			m.sample()
		}
	}
	lasted := time.Since(began)
	engine, daemon = observer.EngineTime(t)-engine, observer.ProcessTime(t, pid)-daemon
	s.print(all, lasted)
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / lasted.Seconds() }
	observer.Figure(t, "%v, %d containers: Engine (dockerd, containerd, shims, runc) %.2f %% of a core, daemon %.2f %%",
		lasted.Round(time.Second), len(all), share(engine), share(daemon))
}

// print prints a row for each workload (mean / highest) and one for all sidecars, and
// checks what must hold.
func (s *stack) print(all []*member, lasted time.Duration) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "workload\tcores used\tlimit\tMiB held\tused\tlimit\tkills\trestarts\tactions\tfailed requests")
	quiet := &member{workload: workload{name: "sidecars"}}
	most := 0
	for _, m := range all {
		m.end(s)
		if m.kills > 0 || m.restarts > 0 {
			s.t.Errorf("%s: %d OOM kills, %d restarts", m.name, m.kills, m.restarts)
		}
		if !strings.HasPrefix(m.name, "sidecar") {
			fmt.Fprintln(table, m)
			continue
		}
		quiet.add(m)
		most = max(most, m.actions)
	}
	fmt.Fprintln(table, quiet)
	hourly := float64(most) / max(lasted.Hours(), 0.1)
	observer.Figure(s.t, "actions per hour of the busiest sidecar: %.0f (at most %d)", hourly, perHour)
	if hourly > perHour {
		s.t.Errorf("an idle container had %.0f actions an hour", hourly)
	}
}

// stack is what one run makes; all of it is removed at its end.
type stack struct {
	t                   *testing.T
	engine              *observer.Engine
	name, image, binary string
	daemon              *exec.Cmd
	client              *api.Client
	dir                 string
}

func newStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{t: t, engine: observer.Local(), name: fmt.Sprintf("effiscale-stack-%d", os.Getpid()), dir: t.TempDir()}
	s.image = os.Getenv("EFFISCALE_STACK_IMAGE")
	if s.image == "" {
		s.image = "effiscale-stack:1"
	}
	if err := s.engine.Ping(); err != nil {
		t.Fatal(err)
	}
	if s.engine.Call("GET", "/images/"+s.image+"/json", nil, nil) != nil {
		s.command("./image.sh", s.image)
	}
	s.binary = filepath.Join(s.dir, "effiscale")
	s.command("go", "build", "-o", s.binary, "github.com/effiscale/effiscale")
	return s
}

func (s *stack) command(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// create starts a container and returns its id.
func (s *stack) create(name string, command []string, labels map[string]string, host map[string]any) string {
	s.t.Helper()
	var made struct {
		ID string `json:"Id"`
	}
	body := map[string]any{"Image": s.image, "Cmd": command, "Labels": labels, "HostConfig": host}
	if err := s.engine.Call("POST", "/containers/create?name="+s.name+"-"+name, body, &made); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := s.engine.Remove(made.ID); err != nil {
			s.t.Errorf("left behind: %s: %v", name, err)
		}
	})
	if err := s.engine.Call("POST", "/containers/"+made.ID+"/start", nil, nil); err != nil {
		s.t.Fatal(err)
	}
	return made.ID
}

// run starts a managed container.
func (s *stack) run(w workload) *member {
	s.t.Helper()
	labels := map[string]string{"effiscale.enable": "true", "org.effiscale.stack": s.name}
	for k, v := range w.labels {
		labels[k] = v
	}
	m := &member{workload: w, id: s.create(w.name, strings.Fields(w.command), labels, map[string]any{
		"NanoCpus": int64(w.cpus * 1e9), "Memory": w.memory << 20, "MemorySwap": w.memory << 20,
		"RestartPolicy": map[string]any{"Name": "on-failure"},
	})}
	m.meet(s)
	return m
}

func (s *stack) startDaemon() {
	s.t.Helper()
	config, socket := filepath.Join(s.dir, "effiscale.toml"), filepath.Join(s.dir, "socket")
	text := fmt.Sprintf(`[node]
data_dir = %q
[docker]
only_label = "org.effiscale.stack=%s"
[api]
monitor = "127.0.0.1:0"
controller = "127.0.0.1:0"
execution = "127.0.0.1:0"
socket = %q
socket_group = ""
[cluster]
bind = "127.0.0.1:0"
`, filepath.Join(s.dir, "data"), s.name, socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(os.TempDir(), s.name+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("the daemon's log: %s", log.Name())
	s.daemon = exec.Command(s.binary, "run", "--config", config)
	s.daemon.Stdout, s.daemon.Stderr = log, log
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.client = api.NewClient(socket)
	s.t.Cleanup(func() {
		s.client.Close()
		_ = s.daemon.Process.Signal(os.Interrupt)
		_ = s.daemon.Wait()
		log.Close()
	})
	observer.Eventually(s.t, time.Minute, "the daemon is ready", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		st, err := api.OpStatus.Call(ctx, s.client, api.None{})
		return err == nil && st.Node.Ready
	})
}

// load puts a workload under load until the test ends; the i-th one begins later.
func (s *stack) load(m *member, i int) {
	address := m.inspect(s).NetworkSettings.IPAddress
	switch {
	case m.bench != "":
		s.create("bench-"+m.name, []string{"/opt/bench.sh", m.bench, address}, nil, nil)
	case m.rate > 0:
		go m.press(s.t.Context(), "http://"+address+":8080/", time.Duration(i)*40*time.Second)
	}
}
