// Package node is the life of the daemon: it introduces the rooms to each other,
// owns the sockets, and takes everything down in the reverse order.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster"
	"github.com/effiscale/effiscale/node/cluster/trust"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/ops"
)

var (
	// ErrLocked: another daemon uses the same data directory (exit code 75).
	ErrLocked = store.ErrLocked
	// ErrConfig: the configuration is wrong (exit code 78).
	ErrConfig = errors.New("bad configuration")
)

// Options are the flags and the surroundings of `effiscale run`.
type Options struct {
	ConfigFile string
	Socket     string // "": as configured
	Env        []string
	Out        io.Writer // of the log
	Terminal   bool      // Out is one
	Version    string
}

// Node is one running daemon.
type Node struct {
	o        Options
	log      zerolog.Logger
	cfg      atomic.Pointer[config.Config]
	identity store.Identity
	started  time.Time
	crashes  int
	unclean  bool   // the last life ended without an orderly stop
	why      string // what the store said when it was opened

	store   *store.Store
	engine  *docker.Client
	kernel  *cgroup.Host                   // nil: cannot be read
	source  string                         // where samples come from, for status
	machine atomic.Pointer[knowledge.Host] // as the Engine, or else the kernel, tells it
	usage   *cgroup.HostReader
	used    atomic.Int64 // nanoCPU of the host in its last second
	loop    *mape.Loop
	cluster *cluster.Cluster
	key     *trust.Identity
	ops     *ops.Set

	starts int // of the last minutes, this one included
	// conflicts holds why this node has to give way to another one.
	conflicts chan error
	server    *api.Server
	metrics   *api.Metrics
	ticks     atomic.Int64 // passes of the loop, for the watchdog
	readied   atomic.Bool

	hangups   chan os.Signal // SIGHUP: read the configuration again
	reloading sync.Mutex     // one reload at a time
	turns     chan struct{}  // tokens for the containers whose statistics are asked for
	statsOnce sync.Once      // the fall-back is said once
	// missing counts looks for kernel files that are not there; the loop's goroutine only.
	missing map[knowledge.ContainerID]int
	// open are actions of an earlier life whose end is not known yet; the loop's
	// goroutine only.
	open []knowledge.Record
	undo []step
}

// step is one thing to undo, with its name for the log.
type step struct {
	name string
	do   func() error
}

// host is what is known of the machine.
func (n *Node) host() knowledge.Host { return *n.machine.Load() }

func (n *Node) push(name string, do func() error) { n.undo = append(n.undo, step{name, do}) }

// hostWithin is how long the start waits for the Engine's first answer; without
// one the node starts all the same and goes on asking.
const hostWithin = 2 * time.Second

// Run starts a node, serves until ctx ends, and stops it: under two seconds, and
// no container is changed by it.
func Run(ctx context.Context, o Options) error {
	n, err := New(ctx, o)
	if err != nil {
		return err
	}
	return n.Serve(ctx)
}

// blank is a node that has acquired nothing.
func blank(o Options) *Node {
	n := &Node{o: o, started: time.Now(), missing: map[knowledge.ContainerID]int{},
		conflicts: make(chan error, 1), turns: make(chan struct{}, statsAtOnce)}
	n.machine.Store(&knowledge.Host{})
	return n
}

// New acquires everything that a node needs. Whatever was acquired is undone
// when something fails.
func New(ctx context.Context, o Options) (n *Node, err error) {
	n = blank(o)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Stop())
		}
	}()
	n.catchHangups() // first: one that comes during the start would end the process
	cfg, err := load(o)
	if err != nil {
		return n, err
	}
	n.cfg.Store(&cfg)
	n.log = newLogger(cfg.Log, o.Out, o.Terminal)
	n.metrics = api.NewMetrics(o.Version)
	if err = n.openStore(cfg); err != nil {
		return n, err
	}
	if err = n.openEngine(ctx, cfg); err != nil {
		return n, err
	}
	n.openKernel()
	n.openLoop(cfg)
	keys, err := ops.OpenKeyRing(cfg.Cluster.KeyFile, cfg.Node.DataDir, n.log)
	if err != nil {
		return n, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	n.openOps(keys)
	if err = n.openCluster(cfg, keys.Keys); err != nil {
		return n, err
	}
	n.server, err = api.New(n.ops.Backend(), api.Options{
		Monitor: cfg.API.Monitor, Controller: cfg.API.Controller, Execution: cfg.API.Execution,
		Socket: cfg.API.Socket, SocketGroup: cfg.API.SocketGroup, TokensFile: cfg.API.TokensFile,
		TLSCert: cfg.API.TLSCert, TLSKey: cfg.API.TLSKey, Hosts: cfg.API.Hosts,
		Log: n.log, Version: o.Version, Metrics: n.metrics,
	})
	if err != nil {
		return n, err
	}
	if err = n.server.Bind(); err != nil {
		return n, err
	}
	n.push("services", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		n.server.Close(ctx)
		return nil
	})
	return n, nil
}

// openOps makes the operations, for a node without a cluster so far.
func (n *Node) openOps(keys *ops.KeyRing) {
	about := ops.About{
		Version: n.o.Version, Identity: n.identity, Started: n.started, Crashes: n.crashes, StoreOpened: n.why,
		Source: n.source, Machine: n.host, Config: n.cfg.Load, Engine: n.engine.State,
	}
	if n.kernel != nil {
		about.Cgroup = n.kernel.Version()
	}
	n.ops = ops.New(ops.Options{About: about, Loop: n.loop, Store: n.store, Keys: keys, Reload: n.Reload, Log: n.log})
}

// load reads the configuration for the user who runs the daemon.
func load(o Options) (config.Config, error) {
	cfg, err := config.LoadForUser(o.ConfigFile, o.Env, o.Socket)
	if err != nil {
		return cfg, fmt.Errorf("%w\n%w", ErrConfig, err)
	}
	return cfg, nil
}

func newLogger(c config.Log, out io.Writer, terminal bool) zerolog.Logger {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	if c.Format == "console" || (c.Format == "auto" && terminal) {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05.000", NoColor: !terminal || os.Getenv("NO_COLOR") != ""}
	}
	return zerolog.New(out).Level(level).Hook(stamp{})
}

// stamp puts the time on every line, to the millisecond: decisions fall within
// a second of each other.
type stamp struct{}

func (stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}

// openEngine makes the Engine's door and asks once for the host.
func (n *Node) openEngine(ctx context.Context, cfg config.Config) (err error) {
	n.engine, err = docker.Open(docker.Options{
		Host: cfg.Docker.Host, Log: n.log, ResyncEvery: cfg.Monitor.ListEvery,
		UpdateTimeout: cfg.Docker.Timeout, InspectTimeout: cfg.Docker.Timeout / 2, ListTimeout: cfg.Docker.Timeout,
		Observe: n.metrics.ObserveEngine,
	})
	if err != nil {
		return fmt.Errorf("%w: docker.host: %w", ErrConfig, err)
	}
	n.push("engine", n.engine.Close)
	ctx, cancel := context.WithTimeout(ctx, hostWithin)
	defer cancel()
	host, err := n.engine.Host(ctx)
	n.machine.Store(&host)
	if err != nil {
		n.log.Warn().Err(err).Msg("the Docker Engine does not answer yet; it is asked again for ever")
	}
	return nil
}

// openKernel finds the kernel's files. Without them the Engine's statistics have
// to do: slower, and said once.
func (n *Node) openKernel() {
	k, err := cgroup.Open(cgroup.Options{Driver: n.host().CgroupDriver})
	if err == nil {
		n.kernel, n.source = k, "kernel files"
		if n.usage, err = k.OpenUsage(); err != nil {
			n.log.Warn().Err(err).Msg("the host's own use cannot be read")
		} else {
			n.push("host's own files", n.usage.Close)
		}
	} else {
		n.source = "engine stats: " + err.Error()
		n.log.Warn().Err(err).Msg("kernel files cannot be read: samples come from the Engine's statistics, slower and coarser")
	}
	if h := n.host(); h.CPUs == 0 {
		h.CPUs, h.Memory = n.ownView()
		n.machine.Store(&h)
	}
}

// Serve runs the node until ctx ends.
func (n *Node) Serve(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var group sync.WaitGroup
	loopCtx, stopLoop := context.WithCancel(work)
	clusterCtx, stopCluster := context.WithCancel(work)
	defer stopCluster()
	leaving := make(chan struct{})
	group.Go(func() { n.cluster.Run(clusterCtx); close(leaving) })
	group.Go(func() { n.loop.Run(loopCtx) })
	group.Go(func() { n.engine.Watch(work, n.loop.Emit) })
	group.Go(func() { n.meetEngine(work) })
	group.Go(func() { n.watchdog(work) })
	group.Go(func() { n.reloadOnHangup(work) })
	group.Go(func() { n.account(work) })
	group.Go(func() { n.ops.Reach.Watch(clusterCtx) })
	n.sayHello()
	failed := make(chan error, 1)
	group.Go(func() {
		if err := n.server.Serve(work); err != nil {
			failed <- err
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case err = <-n.conflicts:
	}
	n.log.Info().Msg("stopping: containers keep the limits that they have")
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	stopCluster()
	<-leaving
	stopLoop()
	<-n.loop.Stopped()
	err = errors.Join(err, n.Stop())
	cancel()
	group.Wait()
	return err
}

// Stop undoes what New acquired, in reverse. It may be called twice.
func (n *Node) Stop() error {
	var errs []error
	for len(n.undo) > 0 {
		s := n.undo[len(n.undo)-1]
		n.undo = n.undo[:len(n.undo)-1]
		if err := s.do(); err != nil {
			errs = append(errs, fmt.Errorf("cannot close the %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Node) sayHello() {
	cfg := n.cfg.Load()
	n.log.Info().Str("version", n.o.Version).Str("node", n.identity.Name).Str("id", string(n.identity.Node)).
		Stringer("mode", cfg.Node.Mode).Str("config", orDefaults(cfg.File)).Str("socket", cfg.API.Socket).
		Str("monitor", n.server.Addr("monitor")).Str("controller", n.server.Addr("controller")).
		Str("execution", n.server.Addr("execution")).Str("samples_from", n.source).
		Str("engine", n.host().EngineVersion).Int("cpus", n.host().CPUs).Stringer("memory", n.host().Memory).
		Int("crashes", n.crashes).
		Msg("containers with effiscale.enable=true are managed, all others are only observed")
}

func orDefaults(file string) string {
	if file == "" {
		return "defaults"
	}
	return file
}
