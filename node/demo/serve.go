package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/node/demo/process"
)

// servePort is the service's port inside its container.
const servePort = 8080

// maxHeld bounds what the service can be told to hold.
const maxHeld = 1 << 30

// service uses CPU time for each request, and holds as much memory as requested.
type service struct {
	slots chan struct{} // bounds the requests at work; the rest wait
	mu    sync.Mutex    // guards held
	held  [][]byte
}

// Serve runs the service inside the demo's container. args hold its lifetime, so that a
// container whose demo was killed ends by itself.
func Serve(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("demo-serve is internal: run `effiscale demo`")
	}
	life, err := time.ParseDuration(args[0])
	if err != nil || life <= 0 {
		return fmt.Errorf("cannot read the lifetime %q", args[0])
	}
	if files := os.Getenv(process.JoinVar); files != "" {
		return join(strings.Split(files, ":"))
	}
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	s := &service{slots: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", s.work)
	mux.HandleFunc("POST /hold/{bytes}", s.hold)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	l, err := listen(ctx)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	return nil
}

// listen is the service's port: a descriptor that was handed over, or its own.
func listen(ctx context.Context) (net.Listener, error) {
	if os.Getenv(process.ListenVar) != "" {
		f := os.NewFile(3, "listener")
		defer f.Close()
		return net.FileListener(f)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(servePort))
}

// join moves this process into control groups and starts the program anew, so that all of
// its memory counts there.
func join(files []string) error {
	for _, file := range files {
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			return fmt.Errorf("cannot join a control group: %w", err)
		}
	}
	if err := os.Unsetenv(process.JoinVar); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// work answers after workPerRequest of CPU time, however long that takes. A request whose
// client has gone is dropped.
func (s *service) work(w http.ResponseWriter, r *http.Request) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return
	}
	if r.Context().Err() != nil {
		return
	}
	sum, err := burn(workPerRequest)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "%x\n", sum)
}

// burn uses CPU time, measured by the thread's own clock, which does not count throttled time.
func burn(d time.Duration) (uint64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var start, now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &start); err != nil {
		return 0, fmt.Errorf("cannot read the thread's clock: %w", err)
	}
	sum := uint64(start.Nano())
	for {
		for range 20_000 { // about 20 µs
			sum = sum*6364136223846793005 + 1442695040888963407
		}
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
			return 0, fmt.Errorf("cannot read the thread's clock: %w", err)
		}
		if now.Nano()-start.Nano() >= d.Nanoseconds() {
			return sum, nil
		}
	}
}

// hold makes the held memory at least so large; it only grows, as a leak does.
func (s *service) hold(w http.ResponseWriter, r *http.Request) {
	want, err := strconv.Atoi(r.PathValue("bytes"))
	if err != nil || want < 0 || want > maxHeld {
		http.Error(w, "a number of bytes up to 1 GiB", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have := 0
	for _, b := range s.held {
		have += len(b)
	}
	if grow := want - have; grow > 0 {
		// Outside Go's heap, so that its collector adds nothing of its own.
		b, err := unix.Mmap(-1, 0, grow, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		s.held = append(s.held, b)
	}
	fmt.Fprintln(w, max(want, have))
}
