// Command effiscale keeps Docker containers at the right size: the daemon, its
// command line and a demonstration in one binary.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/ctl"
)

func main() {
	ctx, stop := withSignals()
	code := ctl.Main(ctx, os.Args[1:], ctl.OS(), deps())
	stop()
	os.Exit(code)
}

// withSignals ends the context at the first SIGINT or SIGTERM; a second SIGINT
// ends the process at once. SIGPIPE becomes a write error, SIGQUIT keeps Go's
// dump of all stacks.
func withSignals() (context.Context, func()) {
	signal.Ignore(syscall.SIGPIPE)
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

// deps introduces the command line to the rooms that it does not know.
func deps() ctl.Deps {
	return ctl.Deps{
		Version:  version(),
		Sockets:  sockets(),
		Validate: config.Validate,
	}
}

// sockets are the places where a daemon's socket is by default: root's, and
// that of a user's own session.
func sockets() []string {
	list := []string{config.Defaults().API.Socket}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, filepath.Join(dir, "effiscale", "effiscale.sock"))
	}
	return list
}

// version is what the build knows of itself: module version, commit, toolchain.
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
