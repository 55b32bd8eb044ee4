package dockertest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Options describe the machine; zero values are the defaults.
type Options struct {
	Cgroup int             // 1 or 2 (default)
	NCPU   int             // 4
	Memory knowledge.Bytes // 8 GiB
	API    string          // newest supported API; "1.41"
	Driver string          // "cgroupfs" (default) or "systemd"
	// Files: keep the tree of kernel files below Root().
	Files bool
	// LiveRestore: containers outlive a restart of the Engine.
	LiveRestore bool
	// KilledIsError: a limit below use on cgroup v2, which kills, is answered with
	// 500 and the old limits stored; else with 200. The real Engine does either.
	KilledIsError bool
	// Podman: it names itself "Podman Engine", and has no updates.
	Podman bool
}

// Engine is a fake Docker Engine. Its methods are safe for concurrent use.
type Engine struct {
	dir string // of the socket: the length of a socket's path is limited

	mu sync.Mutex // guards all below
	machine
	server   *http.Server
	down     chan struct{} // closed when the server goes away
	handlers sync.WaitGroup
	faults   []*Fault
	healed   chan struct{} // closed by Heal
	calls    map[string]int
	updates  []Update
}

// New starts an Engine that ends with the test.
func New(t testing.TB, o Options) *Engine {
	t.Helper()
	if o.Cgroup == 0 {
		o.Cgroup = 2
	}
	if o.NCPU == 0 {
		o.NCPU = 4
	}
	if o.Memory == 0 {
		o.Memory = 8 * knowledge.GiB
	}
	if o.API == "" {
		o.API = "1.41"
	}
	if o.Driver == "" {
		o.Driver = "cgroupfs"
	}
	dir, err := os.MkdirTemp("", "eng")
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{
		machine: machine{
			tree:       tree{t: t, o: o, root: filepath.Join(dir, "root")},
			hub:        hub{listeners: map[chan message]bool{}},
			containers: map[knowledge.ContainerID]*container{},
			images:     map[string]string{},
			networks:   map[string]*subnet{},
			pid:        1000,
		},
		dir:    dir,
		calls:  map[string]int{},
		healed: make(chan struct{}),
	}
	t.Cleanup(func() {
		e.Shutdown()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if o.Files {
		e.hostFiles()
		e.writeHost()
	}
	e.Listen()
	return e
}

// Host is the address of the Engine's socket, "unix:///…".
func (e *Engine) Host() string { return "unix://" + e.socket() }

// Root is the directory below which proc and sys lie, with Options.Files.
func (e *Engine) Root() string { return e.root }

func (e *Engine) socket() string { return filepath.Join(e.dir, "s") }

// Listen opens the socket again after Shutdown.
func (e *Engine) Listen() {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		return
	}
	l, err := net.Listen("unix", e.socket())
	if err != nil {
		e.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(api{e}.serve)}
	e.server, e.down = server, make(chan struct{})
	e.handlers.Go(func() { _ = server.Serve(l) })
}

// SetAPI changes the newest supported API, as a downgrade would.
func (e *Engine) SetAPI(version string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.o.API = version
}

// Shutdown closes the socket and all connections, as when the Engine is killed. The
// containers keep running.
func (e *Engine) Shutdown() {
	e.mu.Lock()
	server := e.server
	e.server = nil
	if server != nil {
		close(e.down)
	}
	e.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
	e.handlers.Wait()
}

// Restart restarts the Engine: all connections break; without LiveRestore every container
// stops, without an event, and those with Spec.Restart start again with a new process and
// counters at zero.
func (e *Engine) Restart() {
	e.Shutdown()
	e.mu.Lock()
	e.events = nil
	if !e.o.LiveRestore {
		for _, b := range e.containers {
			if b.running() {
				e.end(b, 137)
				if b.spec.Restart {
					e.begin(b)
				}
			}
		}
	}
	e.mu.Unlock()
	e.Listen()
}

// Spec is a container to run.
type Spec struct {
	ID           knowledge.ContainerID // made from the name unless given
	Name         string                // "c1", "c2", … unless given
	Image        string                // "app"
	Args         []string
	Labels       map[string]string
	Limits       knowledge.Limits
	Health       string // "", "starting", "healthy", "unhealthy"
	Runtime      string
	GPU          bool
	CgroupParent string
	// Restart: the Engine starts it again when it dies.
	Restart bool
	// Survives: an OOM kill ends a child, not the main process.
	Survives bool
}

// Run makes and starts a container.
func (e *Engine) Run(s Spec) knowledge.ContainerID {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.make(s)
	e.begin(b)
	return b.id
}

// make adds a stopped container. The lock is held, as in all unexported methods.
func (m *machine) make(s Spec) *container {
	m.seq++
	if s.Name == "" {
		s.Name = fmt.Sprintf("c%d", m.seq)
	}
	if s.Image == "" {
		s.Image = "app"
	}
	if s.ID == "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", s.Name, m.seq))
		s.ID = knowledge.ContainerID(hex.EncodeToString(sum[:]))
	}
	b := &container{id: s.ID, spec: s, state: "created", made: time.Now(), record: recordOf(s.Limits)}
	b.before = b.record
	m.containers[b.id] = b
	m.emit(b, "create")
	return b
}

// Start starts a stopped container.
func (e *Engine) Start(id knowledge.ContainerID) { e.with(id, e.begin) }

// Stop ends a container's process.
func (e *Engine) Stop(id knowledge.ContainerID) { e.with(id, func(b *container) { e.end(b, 0) }) }

// Exit ends the process by itself, and StopWith as the answer to a person's signal.
func (e *Engine) Exit(id knowledge.ContainerID, code int) {
	e.with(id, func(b *container) { e.end(b, code) })
}

// StopWith is a stop by a person, which the process answers with an exit code.
func (e *Engine) StopWith(id knowledge.ContainerID, code int) {
	e.with(id, func(b *container) { e.stop(b, code) })
}

// Remove kills and removes a container.
func (e *Engine) Remove(id knowledge.ContainerID) { e.with(id, e.remove) }

// Recreate removes a container and runs a new one of the same specification.
func (e *Engine) Recreate(id knowledge.ContainerID) (fresh knowledge.ContainerID) {
	e.with(id, func(b *container) {
		e.remove(b)
		spec := b.spec
		spec.ID = ""
		n := e.make(spec)
		e.begin(n)
		fresh = n.id
	})
	return fresh
}

// Pause freezes or unfreezes a container.
func (e *Engine) Pause(id knowledge.ContainerID, on bool) {
	e.with(id, func(b *container) {
		switch {
		case on && b.state == "running":
			b.state = "paused"
			e.emit(b, "pause")
		case !on && b.state == "paused":
			b.state = "running"
			e.emit(b, "unpause")
		}
	})
}

// SetHealth sets the result of the container's health check.
func (e *Engine) SetHealth(id knowledge.ContainerID, word string) {
	e.with(id, func(b *container) {
		b.spec.Health = word
		e.emit(b, "health_status: "+word)
	})
}

// with runs f on a container that must exist.
func (e *Engine) with(id knowledge.ContainerID, f func(*container)) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	b, ok := e.containers[id]
	if !ok {
		e.t.Errorf("dockertest: there is no container %s", id.Short())
		return
	}
	f(b)
}
