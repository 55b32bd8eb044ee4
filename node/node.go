// Package node is the process: it makes the parts of the daemon, connects them, owns the
// sockets, and closes everything in the reverse order.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	"github.com/effiscale/effiscale/node/files"
	"github.com/effiscale/effiscale/node/ops"
)

var (
	// ErrLocked: another daemon uses the same data directory (exit code 75).
	ErrLocked = store.ErrLocked
	// ErrConfig: the configuration is wrong (exit code 78).
	ErrConfig = errors.New("bad configuration")
	// ErrDisk: the disk is full or fails, so that the start may succeed later (exit code 74).
	ErrDisk = errors.New("the disk cannot be written; the start can be repeated when it can")
)

// diskFault marks an error whose cause is the disk.
func diskFault(err error) error {
	if ofDisk(err) {
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	return err
}

func ofDisk(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO},
		func(cause error) bool { return errors.Is(err, cause) })
}

// configFault marks an error of the configuration or of a file that it names, unless its cause is
// the disk.
func configFault(err error) error {
	if ofDisk(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrConfig, err)
}

// Validate checks a configuration and the files that it names, as a start does, and returns every value
// in force with its origin. A user who may not read a file is warned.
func Validate(path string, env []string) (text string, warnings []string, err error) {
	cfg, err := config.Load(path, env)
	if err != nil {
		return "", nil, err
	}
	engine, err := docker.Find(cfg.Docker.Host, env)
	if err != nil {
		return "", nil, fmt.Errorf("docker.host: %w", err)
	}
	text = fmt.Sprintf("%s\n# Docker Engine: %s\n", strings.TrimRight(cfg.Effective(), "\n"), engine)
	cfg.FitUser()
	warnings, err = files.Check(&cfg, time.Now())
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return text, append(warnings, "not all files can be checked as this user: "+err.Error()), nil
	}
	return text, warnings, err
}

// checkFiles checks the files that a configuration names, and logs warnings.
func (n *Node) checkFiles(cfg *config.Config) error {
	warnings, err := files.Check(cfg, time.Now())
	for _, w := range warnings {
		n.log.Warn().Str("problem", w).Msg("a file of the configuration needs attention")
	}
	return err
}

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
	key      *trust.Identity
	started  time.Time
	before   earlierRuns

	store   *store.Store
	engine  containerEngine
	address docker.Address // of the engine
	source  string         // of the samples, for status
	probes  *probes
	machine machine
	loop    *mape.Loop
	ops     *ops.Set
	cluster *cluster.Cluster
	server  *api.Server
	metrics *api.Metrics

	// conflicts holds why this node has to yield to another one.
	conflicts chan error
	ticks     atomic.Int64 // passes of the loop, for the watchdog
	readied   atomic.Bool
	stopping  atomic.Bool
	hangups   chan os.Signal // SIGHUP: read the configuration again
	reloading sync.Mutex     // one reload at a time
	undo      []step
}

// step is one thing to undo, with its name for the log.
type step struct {
	name string
	do   func() error
}

func (n *Node) push(name string, do func() error) { n.undo = append(n.undo, step{name, do}) }

// hostWithin is how long the start waits for the Engine's first answer; without
// one the node starts all the same and goes on asking.
const hostWithin = 2 * time.Second

// Run starts a node, serves until ctx ends, and stops it: under two seconds, and
// no container is changed by it.
func Run(ctx context.Context, o Options) error {
	keepHeapSmall()
	n, err := New(ctx, o)
	if err != nil {
		return err
	}
	return n.Serve(ctx)
}

// heapGrowth is how much the heap may grow, in percent of what is in use, before it is
// collected. The daemon allocates little, so that a quarter of Go's default costs next to
// no time and saves a third of the heap.
const heapGrowth = 25

// keepHeapSmall sets heapGrowth, unless the environment has GOGC.
func keepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// blank is a node that has acquired nothing.
func blank(o Options) *Node {
	n := &Node{o: o, started: time.Now(), conflicts: make(chan error, 1)}
	n.machine.described.Store(&knowledge.Host{})
	return n
}

// New acquires everything that a node needs. Whatever was acquired is undone
// when something fails.
func New(ctx context.Context, o Options) (n *Node, err error) {
	n = blank(o)
	defer func() {
		if err != nil {
			err = errors.Join(diskFault(err), n.Stop())
		}
	}()
	n.catchHangups() // first: a signal during the start would end the process
	cfg, err := load(o)
	if err != nil {
		return n, err
	}
	n.cfg.Store(&cfg)
	n.log = newLogger(cfg.Log, o.Out, o.Terminal)
	if err = n.checkFiles(&cfg); err != nil {
		return n, configFault(err)
	}
	n.warnUnused(&cfg)
	n.metrics = api.NewMetrics(o.Version)
	n.metrics.Reloaded(nil, n.started)
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
		return n, configFault(err)
	}
	if err = n.openOps(&cfg, keys); err != nil {
		return n, err
	}
	if err = n.openCluster(cfg, keys.Keys); err != nil {
		return n, err
	}
	return n, n.openServer(cfg)
}

// openServer binds the socket and the three services.
func (n *Node) openServer(cfg config.Config) (err error) {
	n.server, err = api.New(n.ops.Backend(), api.Options{
		Monitor: cfg.API.Monitor, Controller: cfg.API.Controller, Execution: cfg.API.Execution,
		Socket: cfg.API.Socket, SocketGroup: cfg.API.SocketGroup, TokensFile: cfg.API.TokensFile,
		TLSCert: cfg.API.TLSCert, TLSKey: cfg.API.TLSKey, Hosts: cfg.API.Hosts,
		Log: n.log, Version: n.o.Version, Metrics: n.metrics,
	})
	if err != nil {
		return configFault(err)
	}
	if err := n.server.Bind(); err != nil {
		return err
	}
	n.push("services", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		n.server.Close(ctx)
		return nil
	})
	return nil
}

// openOps makes the operations, for a node without a cluster so far.
func (n *Node) openOps(cfg *config.Config, keys *ops.KeyRing) error {
	certificate, err := api.ReadCertificate(api.Options{TLSCert: cfg.API.TLSCert, TLSKey: cfg.API.TLSKey})
	if err != nil {
		return configFault(err)
	}
	about := ops.About{
		Version: n.o.Version, Identity: n.identity, Started: n.started, Crashes: n.before.crashes,
		StoreOpened: n.before.store, Source: n.source, Machine: n.machine.host, Config: n.cfg.Load, Engine: n.engine.State,
		Stopping: n.stopping.Load, Address: n.address, Refusals: n.engine.Refusals, UpdateRefused: n.engine.UpdateRefused,
		Certificate: certificate,
	}
	if n.probes.kernel != nil {
		about.Cgroup = n.probes.kernel.Version()
	}
	n.ops = ops.New(ops.Options{About: about, Loop: n.loop, Store: n.store, Keys: keys, Reload: n.Reload, Log: n.log})
	return nil
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

// openEngine makes the Engine's client and requests the description of the host once.
func (n *Node) openEngine(ctx context.Context, cfg config.Config) (err error) {
	if n.address, err = docker.Find(cfg.Docker.Host, n.o.Env); err != nil {
		return fmt.Errorf("%w: docker.host: %w", ErrConfig, err)
	}
	n.engine, err = docker.Open(docker.Options{
		Host: n.address.Host, CertDir: n.address.CertDir, Log: n.log, ResyncEvery: cfg.Monitor.ListEvery,
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
	n.machine.described.Store(&host)
	if err != nil {
		n.log.Warn().Err(err).Msg("the Docker Engine does not answer yet; retrying in the background")
	}
	return nil
}

// openKernel finds the kernel's files. Without them the Engine's statistics replace them,
// which are slower; that is logged once.
func (n *Node) openKernel() {
	k, err := cgroup.Open(cgroup.Options{Driver: n.machine.host().CgroupDriver})
	n.source = "kernel files"
	if err != nil {
		k, n.source = nil, "engine stats: "+err.Error()
		n.log.Warn().Err(err).Msg("cannot read kernel files; sampling the Engine's statistics, slower and coarser")
	} else if n.machine.reader, err = k.OpenUsage(); err != nil {
		n.log.Warn().Err(err).Msg("cannot read the host's CPU and memory use")
	} else {
		n.push("host's kernel files", n.machine.reader.Close)
	}
	n.probes = newProbes(k, n.engine, n.log)
	n.machine.fromKernel()
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
	group.Go(func() { n.awaitEngine(work) })
	group.Go(func() { n.watchAccess(work) })
	group.Go(func() { n.watchdog(work) })
	group.Go(func() { n.reloadOnHangup(work) })
	group.Go(func() { n.account(work) })
	group.Go(func() { n.ops.Reach.Watch(clusterCtx) })
	n.logStart()
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
	n.stopping.Store(true)
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

func (n *Node) logStart() {
	cfg, host := n.cfg.Load(), n.machine.host()
	n.log.Info().Str("version", n.o.Version).Str("node", n.identity.Name).Str("id", string(n.identity.Node)).
		Stringer("mode", cfg.Node.Mode).Str("config", orDefaults(cfg.File)).Str("socket", cfg.API.Socket).
		Str("monitor", n.server.Addr("monitor")).Str("controller", n.server.Addr("controller")).
		Str("execution", n.server.Addr("execution")).Str("samples_from", n.source).
		Stringer("engine_address", n.address).Str("engine", host.EngineVersion).
		Int("cpus", host.CPUs).Stringer("memory", host.Memory).
		Int("crashes", n.before.crashes).
		Msg("containers with effiscale.enable=true are managed, all others are only observed")
}

func orDefaults(file string) string {
	if file == "" {
		return "defaults"
	}
	return file
}
