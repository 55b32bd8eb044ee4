package dockertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// tree is the machine's kernel files, with Options.Files.
type tree struct {
	t    testing.TB
	o    Options
	root string
}

// v1Trees are the controllers of v1, each with a tree of its own.
var v1Trees = []string{"cpu", "cpuacct", "memory", "blkio", "pids"}

// place is a container's cgroup below a tree's root.
func (t *tree) place(b *container) string {
	parent := b.spec.CgroupParent
	if t.o.Driver == "systemd" {
		if parent == "" {
			parent = "system.slice"
		}
		return filepath.Join(parent, "docker-"+string(b.id)+".scope")
	}
	if parent == "" {
		parent = "docker"
	}
	return filepath.Join(parent, string(b.id))
}

// hostFiles makes the files of the host.
func (t *tree) hostFiles() {
	var mounts strings.Builder
	if t.o.Cgroup == 1 {
		for i, name := range v1Trees {
			fmt.Fprintf(&mounts, "%d 31 0:%d / /sys/fs/cgroup/%s rw,relatime - cgroup cgroup rw,%[3]s\n", 32+i, 29+i, name)
			t.mkdir("sys/fs/cgroup/" + name)
		}
	} else {
		mounts.WriteString("31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n")
		t.mkdir("sys/fs/cgroup")
		t.put(nil, "proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	}
	t.put(nil, "proc/self/mountinfo", mounts.String())
}

func (m *machine) writeHost() {
	if !m.o.Files {
		return
	}
	used := int64(1 << 30)
	for _, b := range m.containers {
		used += b.k.anon
	}
	free := max(int64(m.o.Memory)-used, 0)
	m.put(nil, "proc/stat", fmt.Sprintf("cpu  %d 0 0 0 0 0 0 0 0 0\n", m.busy/(10*time.Millisecond)))
	m.put(nil, "proc/meminfo", fmt.Sprintf("MemTotal: %15d kB\nMemFree: %16d kB\nMemAvailable: %11d kB\n",
		m.o.Memory/1024, free/1024, free/1024))
}

// netDev is a container's proc/PID/net/dev.
const netDev = "Inter-|   Receive                                                |  Transmit\n" +
	" face |bytes    packets errs drop fifo frame compressed multicast" +
	"|bytes    packets errs drop fifo colls carrier compressed\n" +
	"    lo:       0       0    0    0    0     0          0         0" +
	"        0       0    0    0    0     0       0          0\n" +
	"  eth0:     100       1    0    0    0     0          0         0" +
	"      200       2    0    0    0     0       0          0\n"

// makeFiles makes a started container's directories and files.
func (t *tree) makeFiles(b *container) {
	if !t.o.Files {
		return
	}
	b.files, b.dirs = map[string]string{}, nil
	rel := t.place(b)
	var cgroups string
	if t.o.Cgroup == 1 {
		for i, name := range v1Trees {
			b.dirs = append(b.dirs, filepath.Join("sys/fs/cgroup", name, rel))
			cgroups += fmt.Sprintf("%d:%s:/%s\n", i+1, name, rel)
		}
	} else {
		b.dirs = append(b.dirs, filepath.Join("sys/fs/cgroup", rel))
		cgroups = "0::/" + rel + "\n"
	}
	proc := "proc/" + strconv.Itoa(b.pid)
	b.dirs = append(b.dirs, proc)
	for _, d := range b.dirs {
		t.mkdir(d)
	}
	t.put(b, proc+"/cgroup", cgroups)
	t.put(b, proc+"/net/dev", netDev)
	t.writeLimits(b)
	t.writeFiles(b)
}

// dropFiles removes them, after truncating them for readers that hold them open: the
// kernel's files cannot be read any more when their cgroup is removed.
func (t *tree) dropFiles(b *container) {
	if !t.o.Files {
		return
	}
	for name := range b.files {
		_ = os.Truncate(filepath.Join(t.root, name), 0) // may be gone with its directory
	}
	for _, d := range b.dirs {
		if err := os.RemoveAll(filepath.Join(t.root, d)); err != nil {
			t.t.Error(err)
		}
	}
	b.files, b.dirs = nil, nil
}

// in is the path of a file: tree is the v1 controller.
func (t *tree) in(b *container, tree, name string) string {
	if t.o.Cgroup == 1 {
		return filepath.Join("sys/fs/cgroup", tree, t.place(b), name)
	}
	return filepath.Join("sys/fs/cgroup", t.place(b), name)
}

// writeLimits writes what the kernel model holds into the files of limits.
func (t *tree) writeLimits(b *container) {
	if !t.o.Files || !b.running() {
		return
	}
	k := &b.k
	if t.o.Cgroup == 1 {
		t.put(b, t.in(b, "cpu", "cpu.cfs_period_us"), lines(k.period))
		t.put(b, t.in(b, "cpu", "cpu.cfs_quota_us"), lines(k.quota))
		t.put(b, t.in(b, "cpu", "cpu.shares"), lines(k.shares))
		t.put(b, t.in(b, "memory", "memory.limit_in_bytes"), lines(orMost(k.memory)))
		t.put(b, t.in(b, "memory", "memory.memsw.limit_in_bytes"), lines(orMost(k.swap)))
		return
	}
	t.put(b, t.in(b, "", "cpu.max"), orMax(k.quota)+" "+lines(k.period))
	// The conversion of runc before 1.3.2.
	t.put(b, t.in(b, "", "cpu.weight"), lines(1+((k.shares-2)*9999)/262142))
	t.put(b, t.in(b, "", "memory.max"), orMax(k.memory)+"\n")
	t.put(b, t.in(b, "", "memory.high"), orMax(k.high)+"\n")
	swap := "max"
	if k.memory > 0 {
		swap = strconv.FormatInt(max(k.swap-k.memory, 0), 10)
	}
	t.put(b, t.in(b, "", "memory.swap.max"), swap+"\n")
}

// writeFiles writes the counters and levels.
func (t *tree) writeFiles(b *container) {
	if !t.o.Files || !b.running() {
		return
	}
	k := &b.k
	put := func(tree, name, format string, a ...any) { t.put(b, t.in(b, tree, name), fmt.Sprintf(format, a...)) }
	if t.o.Cgroup == 1 {
		put("cpuacct", "cpuacct.usage", "%d\n", int64(k.usage))
		put("cpu", "cpu.stat", "nr_periods %d\nnr_throttled %d\nthrottled_time %d\n",
			k.periods, k.throttled, int64(k.throttledTime))
		put("memory", "memory.usage_in_bytes", "%d\n", k.anon+k.cache)
		put("memory", "memory.stat", "cache %[2]d\nrss %[1]d\ntotal_cache %[2]d\ntotal_rss %[1]d\ntotal_shmem 0\n"+
			"total_inactive_file %[3]d\ntotal_active_file %[4]d\ntotal_unevictable 0\n",
			k.anon, k.cache, k.cache-k.cache/2, k.cache/2)
		put("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill %d\n", k.kill)
		put("memory", "memory.failcnt", "%d\n", k.max)
		put("pids", "pids.current", "1\n")
		put("blkio", "blkio.throttle.io_service_bytes_recursive",
			"8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n")
		return
	}
	put("", "cpu.stat", "usage_usec %d\nuser_usec %[1]d\nsystem_usec 0\nnr_periods %d\nnr_throttled %d\n"+
		"throttled_usec %d\n",
		k.usage.Microseconds(), k.periods, k.throttled, k.throttledTime.Microseconds())
	put("", "memory.current", "%d\n", k.anon+k.cache)
	put("", "memory.stat", "anon %d\nfile %[2]d\nkernel 0\nshmem 0\ninactive_file %d\nactive_file %d\nunevictable 0\n"+
		"workingset_refault_anon 0\nworkingset_refault_file 0\n", k.anon, k.cache, k.cache-k.cache/2, k.cache/2)
	put("", "memory.events", "low 0\nhigh %d\nmax %d\noom %d\noom_kill %d\n", k.highs, k.max, k.oom, k.kill)
	put("", "pids.current", "1\n")
	put("", "io.stat", "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n")
	for name, v := range map[string]float64{"cpu": b.psiCPU, "memory": b.psiMem, "io": 0} {
		put("", name+".pressure", "some avg10=%.2f avg60=%.2[1]f avg300=%.2[1]f total=0\n"+
			"full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", v)
	}
}

// adopt reads what others wrote to the files of limits.
func (t *tree) adopt(b *container) {
	if !t.o.Files || !b.running() {
		return
	}
	k := &b.k
	if t.o.Cgroup == 1 {
		if text, ok := t.changed(b, t.in(b, "cpu", "cpu.cfs_period_us")); ok {
			k.period = t.number(text, 100_000)
		}
		if text, ok := t.changed(b, t.in(b, "cpu", "cpu.cfs_quota_us")); ok {
			k.quota = t.number(text, -1)
		}
		if text, ok := t.changed(b, t.in(b, "memory", "memory.limit_in_bytes")); ok {
			k.memory = t.number(text, 0)
		}
		if text, ok := t.changed(b, t.in(b, "memory", "memory.memsw.limit_in_bytes")); ok {
			k.swap = t.number(text, 0)
		}
		return
	}
	if text, ok := t.changed(b, t.in(b, "", "memory.max")); ok {
		k.memory = t.number(text, 0)
	}
	if text, ok := t.changed(b, t.in(b, "", "memory.swap.max")); ok && text != "max" {
		k.swap = k.memory + t.number(text, 0)
	}
	if text, ok := t.changed(b, t.in(b, "", "cpu.max")); ok {
		quota, period, _ := strings.Cut(text, " ")
		k.quota = t.number(quota, -1)
		if period != "" {
			k.period = t.number(period, 100_000)
		}
	}
	if text, ok := t.changed(b, t.in(b, "", "memory.high")); ok {
		k.high = t.number(text, 0)
	}
}

// number reads a written number; "max" and -1 are none.
func (t *tree) number(text string, none int64) int64 {
	if text == "max" || text == "-1" {
		return none
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.t.Errorf("dockertest: %q was written where the kernel wants a number", text)
		return none
	}
	return v
}

// changed returns the first line of a file that others wrote.
func (t *tree) changed(b *container, name string) (string, bool) {
	text, err := os.ReadFile(filepath.Join(t.root, name))
	if err != nil || string(text) == b.files[name] {
		return "", false
	}
	b.files[name] = string(text)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return strings.TrimSpace(string(line)), true
}

// put writes a file in one piece and in place, since readers hold it open; content that is
// shorter than before is padded with empty lines.
func (t *tree) put(b *container, name, text string) {
	if b != nil {
		old := b.files[name]
		if pad := len(old) - len(text); pad > 0 {
			text += strings.Repeat("\n", pad)
		}
		if text == old {
			return
		}
		b.files[name] = text
	}
	path := filepath.Join(t.root, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if os.IsNotExist(err) {
		t.mkdir(filepath.Dir(name))
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	}
	if err != nil {
		t.t.Errorf("dockertest: %v", err)
		return
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		t.t.Errorf("dockertest: %v", err)
	}
}

func (t *tree) mkdir(name string) {
	if err := os.MkdirAll(filepath.Join(t.root, name), 0o755); err != nil {
		t.t.Errorf("dockertest: %v", err)
	}
}

func lines(v int64) string { return strconv.FormatInt(v, 10) + "\n" }

func orMax(v int64) string {
	if v <= 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

// orMost is a limit of v1; its maximum is no limit.
func orMost(v int64) int64 {
	if v <= 0 {
		return 9223372036854771712
	}
	return min(v, int64(knowledge.MaxBytes))
}
