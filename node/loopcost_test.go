package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
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
type listing struct {
	all       []knowledge.Container
	inspected atomic.Int64
}

// allowing is an Engine that refuses no update.
type allowing struct{ containerEngine }

func (allowing) UpdateRefused() string { return "" }

var errNotHere = errors.New("not in this test")

func (l *listing) List(context.Context) ([]knowledge.Container, error) { return l.all, nil }
func (l *listing) State() (bool, time.Time, string)                    { return true, time.Time{}, "" }
func (l *listing) Inspect(_ context.Context, id knowledge.ContainerID) (knowledge.Container, error) {
	for i := range l.all {
		if c := l.all[i]; c.ID == id {
			l.inspected.Add(1)
			c.Inspected = true // its control group has these limits, or lower ones of an unlimited one: nothing to repair
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

func (l *listing) Restore(
	context.Context, knowledge.ContainerID, knowledge.Resource, knowledge.Limits,
) (string, error) {
	return "", nil
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

// before is what TestLoopCost printed at commit 932bd6d, in the same shape: percent of a
// core on a quiet machine and beside other work, and MiB.
var before = map[string]string{
	"each second": "1.6 - 3.1 %, 53 - 66 MiB", "adaptive, all idle": "0.7 - 2.0 %, 53 - 66 MiB",
}

// TestLoopCost runs the whole loop (reading, windows, profiles, decisions, a commit
// each interval) over real cgroups, and bare reads of the same files at the same pace,
// and prints what each costs beside what it cost before. With EFFISCALE_LOOP_COST it
// measures for so long, and also cgroups that all work, and idle ones with a limit: the one that
// they started with, or one that the daemon cut:
//
//	EFFISCALE_LOOP_COST=20s go test -v -run '^TestLoopCost$' ./node
//
// The bounds are generous: the race detector and a busy machine multiply everything.
func TestLoopCost(t *testing.T) {
	span, long := 4*time.Second, false
	if s := os.Getenv("EFFISCALE_LOOP_COST"); s != "" {
		var err error
		if span, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
		long = true
	}
	keepHeapSmall()
	all := groves(t, 1000)
	bare := bareReads(t, all, span)
	fmt.Printf("figure: %-26s %6s %6s   %s\n", "1000 cgroups", "CPU, %", "MiB", "at commit 932bd6d")
	fmt.Printf("figure: %-26s %6.2f\n", "bare pread, each second", bare*100)
	const mib64 = 64 * knowledge.MiB
	for _, c := range []costCase{
		{name: "each second", idle: time.Second}, {name: "adaptive, all idle", idle: 5 * time.Second},
		{name: "idle, 64 MiB", idle: 5 * time.Second, limit: mib64, record: mib64, long: true},
		{name: "idle, cut to 64 MiB", idle: 5 * time.Second, limit: mib64, long: true},
		{name: "each second, all working", idle: time.Second, working: true, long: true},
	} {
		if c.long && !long {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if c.working {
				work(t, all[0].CgroupParent)
			}
			limitMemory(t, all, c.limit, c.record)
			share, rss := loopCost(t, all, c.idle, span)
			mib := float64(rss) / float64(knowledge.MiB)
			fmt.Printf("figure: %-26s %6.2f %6.1f   %s\n", c.name, share*100, mib, before[c.name])
			if share > 6*bare+0.01 {
				t.Errorf("the loop takes %.2f %% of a core, bare reads of the same files %.2f %%", share*100, bare*100)
			}
		})
	}
}

type costCase struct {
	name          string
	idle          time.Duration
	limit, record knowledge.Bytes // in force, and what the Engine has; 0: none
	working, long bool
}

// limitMemory sets the memory limits of all cgroups.
func limitMemory(t *testing.T, all []knowledge.Container, limit, record knowledge.Bytes) {
	file, text := "/sys/fs/cgroup/memory%s/memory.limit_in_bytes", "-1"
	if !isDir("/sys/fs/cgroup/memory") {
		file, text = "/sys/fs/cgroup%s/memory.max", "max"
	}
	if limit > 0 {
		text = strconv.FormatInt(int64(limit), 10)
	}
	for i := range all {
		c := &all[i]
		c.Limits.Memory, c.Limits.MemorySwap = record, record
		path := fmt.Sprintf(file, c.CgroupParent+"/"+string(c.ID))
		if err := os.WriteFile(path, []byte(text), 0); err != nil && limit > 0 {
			t.Fatal(err)
		}
	}
}

// bareReads is the share of a core that reading the files of the fast tier takes, once
// a second, with nothing made of them.
func bareReads(t *testing.T, all []knowledge.Container, span time.Duration) float64 {
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, c := range all {
		for _, name := range []string{
			"cpuacct%s/cpuacct.usage", "cpu%s/cpu.stat", "memory%s/memory.usage_in_bytes", // v1
			"%s/cpu.stat", "%s/memory.current", // v2
		} {
			path := fmt.Sprintf("/sys/fs/cgroup/"+name, c.CgroupParent+"/"+string(c.ID))
			if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				fds = append(fds, fd)
			}
		}
	}
	if len(fds) < 2*len(all) {
		t.Fatalf("%d files of %d cgroups", len(fds), len(all))
	}
	buf := make([]byte, 4096)
	var used, began = time.Duration(0), time.Time{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for round := range int(span/time.Second) + 2 {
		<-tick.C
		if round == 1 { // the kernel gives each file its buffer at the first read
			used, began = cpuTime(), time.Now()
		}
		for _, fd := range fds {
			if n, err := unix.Pread(fd, buf, 0); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	return float64(cpuTime()-used) / float64(time.Since(began))
}

const workerEnv = "EFFISCALE_TEST_WORK_IN"

// workers share the cgroups that work.
const workers = 20

// work starts processes that go through all cgroups each second and work a little in
// each.
func work(t *testing.T, parent string) {
	for i := range workers {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLoopCostWorker$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", workerEnv, i, parent))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// TestLoopCostWorker is the process that works.
func TestLoopCostWorker(t *testing.T) {
	number, parent, ok := strings.Cut(os.Getenv(workerEnv), " ")
	if !ok {
		return // it is no test of its own
	}
	mine, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for _, pattern := range []string{"/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"} {
		if groups, _ = filepath.Glob(pattern + parent + "/*/cgroup.procs"); len(groups) > 0 {
			break
		}
	}
	if len(groups) == 0 {
		t.Fatal("no cgroups")
	}
	for {
		began := time.Now()
		for i, g := range groups {
			if i%workers != mine {
				continue
			}
			if os.WriteFile(g, []byte("0"), 0) != nil {
				return // they are being removed
			}
			for from := time.Now(); time.Since(from) < 300*time.Microsecond; {
			}
		}
		time.Sleep(time.Second - time.Since(began))
	}
}

func loopCost(t *testing.T, all []knowledge.Container, idle, span time.Duration) (share float64, rss knowledge.Bytes) {
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
	n := &Node{engine: allowing{}}
	n.machine.described.Store(&knowledge.Host{CPUs: 2, Memory: 8 * knowledge.GiB})
	metrics := api.NewMetrics("test")
	ready := make(chan struct{})
	engine := &listing{all: all}
	loop := mape.New(mape.Options{
		Engine: engine, Store: memory{s: s, commits: metrics.StoreCommit}, Node: "self",
		Attach: func(c knowledge.Container) (execute.Probe, error) { return k.Attach(c) },
		Host:   n.machine.host(), Meter: metrics, Log: zerolog.Nop(), Settings: n.settings(&cfg),
		OnReady: func() { close(ready) },
	})
	ctx, stop := context.WithCancel(context.Background())
	began := time.Now()
	go loop.Run(ctx)
	<-ready
	first := time.Since(began)
	deadline := time.Now().Add(time.Minute)
	for engine.inspected.Load() < int64(len(all)) && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(3 * time.Second) // first records are on the disk, and rings have their size
	used, at := cpuTime(), time.Now()
	time.Sleep(span)
	share = float64(cpuTime()-used) / float64(time.Since(at))
	rss = resident()
	stop()
	<-loop.Stopped()
	if first > 20*time.Second {
		t.Errorf("the first pass over 1000 containers took %v", first)
	}
	return share, rss
}
