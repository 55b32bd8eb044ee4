package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

// listing is an Engine that only lists: the loop's own cost is what is measured.
type listing struct{ all []knowledge.Container }

var errNotHere = errors.New("not in this test")

func (l *listing) List(context.Context) ([]knowledge.Container, error) { return l.all, nil }
func (l *listing) State() (bool, time.Time, string)                    { return true, time.Time{}, "" }
func (l *listing) Inspect(_ context.Context, id knowledge.ContainerID) (knowledge.Container, error) {
	for _, c := range l.all {
		if c.ID == id {
			c.Inspected, c.Limits = true, knowledge.Limits{CPU: knowledge.OneCPU}
			return c, nil
		}
	}
	return knowledge.Container{}, errNotHere
}

func (l *listing) UpdateCPU(context.Context, knowledge.ContainerID, knowledge.Limits) error {
	return nil
}

func (l *listing) UpdateMemory(context.Context, knowledge.ContainerID, knowledge.Bytes, knowledge.Bytes) error {
	return errNotHere
}

func (l *listing) UpdateShares(context.Context, knowledge.ContainerID, int64) error {
	return errNotHere
}
func (l *listing) Gone(error) bool    { return false }
func (l *listing) Refused(error) bool { return true }

const costPrefix = "effiscale-loopcost-"

// groves makes n real cgroups in every hierarchy and removes them afterwards.
func groves(t *testing.T, n int) []knowledge.Container {
	parent := costPrefix + strconv.Itoa(os.Getpid())
	var dirs []string
	for _, name := range []string{"cpu", "cpuacct", "memory", "blkio", "pids"} {
		if dir := filepath.Join("/sys/fs/cgroup", name); isDir(dir) {
			dirs = append(dirs, dir)
		}
	}
	t.Cleanup(func() {
		for _, dir := range dirs {
			children, _ := filepath.Glob(filepath.Join(dir, parent, "*", "cgroup.procs"))
			for _, c := range children {
				_ = os.Remove(filepath.Dir(c))
			}
			_ = os.Remove(filepath.Join(dir, parent))
		}
	})
	out := make([]knowledge.Container, 0, n)
	for i := range n {
		c := knowledge.Container{
			ID: knowledge.ContainerID(fmt.Sprintf("%064x", i+1)), Name: fmt.Sprintf("c%d", i), State: knowledge.StateRunning,
			Labels: map[string]string{"effiscale.enable": "true"}, CgroupParent: "/" + parent,
		}
		c.Service = knowledge.ServiceOf(c.Name, c.Labels)
		for _, dir := range dirs {
			if err := os.MkdirAll(filepath.Join(dir, parent, string(c.ID)), 0o755); err != nil {
				t.Skipf("left out (EFFISCALE_REQUIRE_ENGINE=%s): no control group can be created: %v",
					os.Getenv("EFFISCALE_REQUIRE_ENGINE"), err)
			}
		}
		out = append(out, c)
	}
	return out
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func resident() knowledge.Bytes {
	b, _ := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return knowledge.Bytes(pages * int64(os.Getpagesize()))
}

// TestLoopCost runs the whole loop (reading, windows, profiles, decisions, a
// commit each interval) over real cgroups and prints what it costs. The bounds
// are generous: the race detector and a busy machine multiply everything.
func TestLoopCost(t *testing.T) {
	span := 6 * time.Second
	if s := os.Getenv("EFFISCALE_LOOP_COST"); s != "" {
		var err error
		if span, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	all := groves(t, 1000)
	for _, c := range []struct {
		name string
		idle time.Duration
	}{{"each second", time.Second}, {"adaptive, all idle", 5 * time.Second}} {
		t.Run(c.name, func(t *testing.T) { loopCost(t, all, c.idle, span) })
	}
}

func loopCost(t *testing.T, all []knowledge.Container, idle, span time.Duration) {
	k, err := cgroup.Open(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cfg := config.Defaults()
	cfg.Monitor.IdleEvery = idle
	n := &Node{}
	n.machine.described.Store(&knowledge.Host{CPUs: 2, Memory: 8 * knowledge.GiB})
	metrics := api.NewMetrics("test")
	ready := make(chan struct{})
	loop := mape.New(mape.Options{
		Engine: &listing{all}, Store: memory{s: s, commits: metrics.StoreCommit}, Node: "self",
		Attach: func(c knowledge.Container) (execute.Probe, error) { return k.Attach(c) },
		Host:   n.machine.host(), Meter: metrics, Log: zerolog.Nop(), Settings: n.settings(&cfg),
		OnReady: func() { close(ready) },
	})
	ctx, stop := context.WithCancel(context.Background())
	began := time.Now()
	go loop.Run(ctx)
	<-ready
	first := time.Since(began)
	time.Sleep(2 * time.Second) // let rings and maps grow to their size
	used, at := cpuTime(), time.Now()
	time.Sleep(span)
	share := float64(cpuTime()-used) / float64(time.Since(at))
	rss := resident()
	stop()
	<-loop.Stopped()
	fmt.Printf("figure: loop over 1000 cgroups, %s: %.2f %% of a core, %s resident, first pass after %v\n", t.Name(),
		share*100, rss, first.Round(time.Millisecond))
	if share > 0.5 {
		t.Errorf("the loop takes %.0f %% of a core", share*100)
	}
	if first > 20*time.Second {
		t.Errorf("the first pass over 1000 containers took %v", first)
	}
}
