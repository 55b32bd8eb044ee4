// Command effiscale keeps Docker containers at the right size: the daemon, its
// command line and a demonstration in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/node"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/ctl"
	"github.com/effiscale/effiscale/node/demo"
	"github.com/effiscale/effiscale/node/doctor"
)

func main() {
	ctx, stop := withSignals()
	code := ctl.Main(ctx, os.Args[1:], ctl.OS(), deps())
	stop()
	os.Exit(code)
}

// withSignals ends the context at the first SIGINT or SIGTERM; a second SIGINT
// ends the process at once. SIGPIPE becomes a write error. SIGUSR1 and SIGUSR2 are
// ignored. SIGQUIT keeps Go's dump of all stacks.
func withSignals() (context.Context, func()) {
	signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if s == syscall.SIGINT && ctx.Err() != nil {
				os.Exit(ctl.ExitInterrupted)
			}
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

// deps are what the command line needs of packages that it does not import.
func deps() ctl.Deps {
	return ctl.Deps{
		Version:   version(),
		Sockets:   config.Sockets(),
		Validate:  node.Validate,
		Run:       run,
		Doctor:    diagnose,
		Demo:      demonstrate,
		DemoServe: demo.Serve,
	}
}

// run is `effiscale run`, with the exit codes of errors at the start.
func run(ctx context.Context, o ctl.RunOptions) error {
	err := node.Run(ctx, node.Options{
		ConfigFile: o.ConfigFile, Socket: o.Socket, Env: o.Env, Out: os.Stderr,
		Terminal: isTerminal(os.Stderr), Version: version(),
	})
	switch {
	case errors.Is(err, node.ErrLocked):
		return ctl.Coded(ctl.ExitLocked, fmt.Errorf("%w\nAnother effiscale daemon uses this node.data_dir: "+
			"stop it, or set another directory", err))
	case errors.Is(err, node.ErrDisk):
		return ctl.Coded(ctl.ExitDisk, err)
	case errors.Is(err, node.ErrConfig), errors.Is(err, node.ErrConflict):
		return ctl.Coded(ctl.ExitConfig, err)
	}
	return err
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func diagnose(ctx context.Context, o ctl.DoctorOptions) []api.Check {
	return doctor.Run(ctx, doctor.Options{ConfigFile: o.ConfigFile, Socket: o.Socket, Env: o.Env})
}

// demonstrate is `effiscale demo`.
func demonstrate(ctx context.Context, o ctl.DemoOptions) error {
	err := demo.Run(ctx, demo.Options{Shape: o.Shape, Duration: o.Duration, Plain: o.Plain, Colour: o.Colour, Out: o.Out,
		Env: os.Environ(), Sockets: config.Sockets(), Command: os.Args[0]})
	if errors.Is(err, demo.ErrBusy) {
		return ctl.Coded(ctl.ExitRefused, err)
	}
	switch kind, ok := docker.KindOf(err); {
	case errors.Is(err, demo.ErrInterrupted):
		return ctl.Coded(ctl.ExitInterrupted, err)
	case !ok:
	case kind == docker.KindPermission:
		return ctl.Coded(ctl.ExitPermission, err)
	case kind == docker.KindUnreachable, kind == docker.KindTimeout:
		return ctl.Coded(ctl.ExitUnreachable, err)
	}
	return err
}

// version is the module version, commit and toolchain of the build.
func version() string {
	v, commit, dirty := "unknown", "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		v = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = "commit " + s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				if s.Value == "true" {
					dirty = "+changes"
				}
			}
		}
	}
	if commit == "" {
		commit = "commit unknown"
	}
	return fmt.Sprintf("%s (%s%s, %s, %s/%s)", v, commit, dirty, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
