// Command load is a container's work in end-to-end tests: it burns CPU, takes
// memory or serves HTTP to a schedule, and stops at SIGTERM. Built static it is
// all that an image needs.
//
//	load idle
//	load cpu  --cores 1.5 [--for 60s]
//	load step --from 0.5 --to 1.5 --at 5s [--back 20s] [--for 60s]
//	load mem  --from 64MiB --to 1GiB --rate 5MB [--for 60s]
//	load files --size 300MiB --names 200000
//	load http --addr :8080 --work 5ms
//
// Each change of the schedule is one line on standard output with the wall clock
// in nanoseconds: "at=1763913600000000000 cores=1.5".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
}

// options are the flags of all subcommands; each reads its own.
type options struct {
	cores, from, to   float64
	at, back, lasting time.Duration
	memFrom, memTo    int64
	memRate           int64
	size              int64
	names             int
	addr              string
	work              time.Duration
}

// run does one subcommand until its time is over or ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("say what to do: idle, cpu, step, mem, files or http")
	}
	o, err := parse(args[0], args[1:])
	if err != nil {
		return err
	}
	if o.lasting > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.lasting)
		defer cancel()
	}
	switch args[0] {
	case "cpu":
		return burn(ctx, out, []step{{cores: o.cores}})
	case "step":
		steps := []step{{cores: o.from}, {after: o.at, cores: o.to}}
		if o.back > 0 {
			steps = append(steps, step{after: o.back, cores: o.from})
		}
		return burn(ctx, out, steps)
	case "mem":
		return remember(ctx, out, o.memFrom, o.memTo, o.memRate)
	case "files":
		return copyFiles(ctx, out, o.size, o.names)
	case "http":
		return serve(ctx, out, o.addr, o.work)
	}
	<-ctx.Done()
	return nil
}

func parse(name string, args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("load "+name, flag.ContinueOnError)
	fs.DurationVar(&o.lasting, "for", 0, "how long; 0: until stopped")
	size := func(p *int64, flag string) {
		fs.Func(flag, "bytes, as 64MiB or 5MB", func(s string) (err error) { *p, err = parseSize(s); return err })
	}
	switch name {
	case "idle":
	case "cpu":
		fs.Float64Var(&o.cores, "cores", 1, "cores to use")
	case "step":
		fs.Float64Var(&o.from, "from", 0.5, "cores before the step")
		fs.Float64Var(&o.to, "to", 1.5, "cores after it")
		fs.DurationVar(&o.at, "at", 5*time.Second, "when the step comes")
		fs.DurationVar(&o.back, "back", 0, "when it goes back; 0: never")
	case "mem":
		o.memFrom, o.memTo, o.memRate = 64<<20, 1<<30, 5e6
		size(&o.memFrom, "from")
		size(&o.memTo, "to")
		size(&o.memRate, "rate")
	case "files":
		size(&o.size, "size")
		fs.IntVar(&o.names, "names", 0, "files to look for that do not exist")
	case "http":
		fs.StringVar(&o.addr, "addr", ":8080", "where to listen")
		fs.DurationVar(&o.work, "work", 5*time.Millisecond, "CPU time of a request")
	default:
		return o, fmt.Errorf("unknown work %q: idle, cpu, step, mem, files or http", name)
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	return o, check(o)
}

func check(o options) error {
	for _, c := range []float64{o.cores, o.from, o.to} {
		if math.IsNaN(c) || c < 0 || c > maxCores {
			return fmt.Errorf("%v cores: allowed are 0 to %d", c, maxCores)
		}
	}
	if o.memRate < 0 || o.memFrom < 0 || o.memTo < o.memFrom {
		return errors.New("memory must grow: --from at most --to, --rate above 0")
	}
	return nil
}

// parseSize reads a size in bytes, with KiB, MiB, GiB (1024) or KB, MB, GB (1000).
func parseSize(s string) (int64, error) {
	units := []struct {
		name string
		size int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}
	unit := int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			s, unit = n, u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size such as 64MiB", s)
	}
	return n * unit, nil
}

// serve answers each request after work of CPU time, as a worker of a web
// service would; GET /health costs nothing.
func serve(ctx context.Context, out io.Writer, addr string, work time.Duration) error {
	// The runtime would follow the quota down to two threads; the container's
	// limit alone should decide.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		spend(work)
		fmt.Fprintln(w, "ok")
	})
	s := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	end := context.AfterFunc(ctx, func() { s.Close() })
	defer end()
	say(out, "listening=%s", addr)
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func say(out io.Writer, format string, args ...any) {
	fmt.Fprintf(out, "at=%d "+format+"\n", append([]any{time.Now().UnixNano()}, args...)...)
}
