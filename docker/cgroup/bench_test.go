package cgroup

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/knowledge"
)

// The budget of the fast tier: at most 15 µs a sample in the cold loop, 0
// allocations, 3 system calls. 1000 containers a second at 10 µs are 1 % of a
// core. Compare with BenchmarkPread of the same run: bare reads of the same files.

// BenchmarkSample reads one container over and over: everything is in the cache.
func BenchmarkSample(b *testing.B) {
	_, all := forest(b, 1)
	c := all[0]
	var s knowledge.Sample
	for name, f := range map[string]func() error{
		"fast":   func() error { return c.Read(&s, knowledge.FastTier) },
		"slow":   func() error { return c.Read(&s, knowledge.SlowTier) },
		"memory": func() error { return c.Read(&s, memorySignals) },
		"limits": func() error { return c.Read(&s, knowledge.HasLimits) },
		"quota":  func() error { return c.SetQuota(500e6, 0) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("fast,pread", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bare(b, c)
		}
	})
}

// bare is the floor: the reads of the fast tier, with nothing made of them.
func bare(b *testing.B, c *Container) {
	for _, fd := range c.kept {
		if fd < 0 {
			continue
		}
		if n, err := unix.Pread(int(fd), c.host.buf, 0); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// Benchmark1000 goes through 1000 containers; "cold" walks through 64 MiB before
// each round, as the rest of the machine does between two seconds.
func Benchmark1000(b *testing.B) {
	_, all := forest(b, 1000)
	s := make([]knowledge.Sample, len(all))
	junk := make([]byte, 64<<20)
	loops := []struct {
		name string
		one  func(i int) error
	}{
		{"fast", func(i int) error { return all[i].Read(&s[i], knowledge.FastTier) }},
		{"slow", func(i int) error { return all[i].Read(&s[i], knowledge.SlowTier) }},
		{"pread", func(i int) error { bare(b, all[i]); return nil }},
	}
	for _, l := range loops {
		for _, cold := range []bool{false, true} {
			name := l.name + ",warm"
			if cold {
				name = l.name + ",cold"
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				reads, rounds, spent := readCalls(b), 0, time.Duration(0)
				for b.Loop() {
					if cold {
						b.StopTimer()
						for i := 0; i < len(junk); i += 64 {
							junk[i]++
						}
						b.StartTimer()
					}
					from := cpuTime()
					for i := range all {
						if err := l.one(i); err != nil {
							b.Fatal(err)
						}
					}
					spent += cpuTime() - from
					rounds++
				}
				samples := float64(rounds * len(all))
				b.ReportMetric(float64(spent)/samples, "cpu-ns/sample")
				b.ReportMetric(float64(readCalls(b)-reads)/samples, "reads/sample")
			})
		}
	}
}

// BenchmarkPaced is the whole truth: rounds at their real pace, with the
// process's CPU time as the kernel counts it. Run it with -benchtime=20x, each
// being one second.
func BenchmarkPaced(b *testing.B) {
	_, all := forest(b, 1000)
	s := make([]knowledge.Sample, len(all))
	fast := func(i int) error { return all[i].Read(&s[i], knowledge.FastTier) }
	for _, p := range []struct {
		name  string
		every time.Duration
		n     int
		read  func(i int) error
		slow  int // so many containers of each round read the slow tier too
	}{
		{"1Hz,pread,1000", time.Second, 1000, func(i int) error { bare(b, all[i]); return nil }, 0},
		{"1Hz,fast,1000", time.Second, 1000, fast, 0},
		{"1Hz,fast,1000,slow,each,10s", time.Second, 1000, fast, 100},
		{"10Hz,fast,50", time.Second / 10, 50, fast, 0},
		{"10Hz,cpu,50", time.Second / 10, 50, func(i int) error { return all[i].Read(&s[i], cpuSignals) }, 0},
		{"10Hz,nothing", time.Second / 10, 0, fast, 0},
	} {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			tick := time.NewTicker(p.every)
			defer tick.Stop()
			start, from, next := time.Now(), cpuTime(), 0
			for b.Loop() {
				for range time.Second / p.every {
					<-tick.C
					for i := range p.n {
						if err := p.read(i); err != nil {
							b.Fatal(err)
						}
					}
					for range p.slow {
						if err := all[next%p.n].Read(&s[next%p.n], knowledge.SlowTier); err != nil {
							b.Fatal(err)
						}
						next++
					}
				}
			}
			b.ReportMetric(100*float64(cpuTime()-from)/float64(time.Since(start)), "%core")
		})
	}
}

// cpuTime is what this process has used, in user and kernel mode.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestSystemCalls lets strace, where there is one, count all system calls of a
// child that reads one container 500 times.
func TestSystemCalls(t *testing.T) {
	const rounds = 500
	if tier := os.Getenv("EFFISCALE_TEST_TIER"); tier != "" {
		_, all := forest(t, 1)
		n, _ := strconv.Atoi(os.Getenv("EFFISCALE_TEST_ROUNDS"))
		var s knowledge.Sample
		for range n {
			var err error
			if tier == "fast" {
				err = all[0].Read(&s, knowledge.FastTier)
			} else {
				err = all[0].Read(&s, knowledge.SlowTier)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	// What a reading could be made of; not the runtime's own waiting (futex, epoll).
	const touches = "trace=%file,close,read,pread64,readv,preadv,write,pwrite64,fstat,lseek,fcntl," +
		"getdents64,ioctl,dup,dup3"
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip(err)
	}
	h, _ := forest(t, 1)
	most := map[string]float64{"fast": 3, "slow": 48} // 16 files, each opened, read and closed
	if h.Version() == V2 {
		most["fast"] = 2
	}
	for tier, most := range most {
		calls := func(rounds int) int {
			cmd := exec.Command(strace, "-f", "-qq", "-c", "-e", touches, os.Args[0], "-test.run=^TestSystemCalls$")
			cmd.Env = append(os.Environ(), "EFFISCALE_TEST_TIER="+tier, "EFFISCALE_TEST_ROUNDS="+strconv.Itoa(rounds))
			var table bytes.Buffer
			cmd.Stderr = &table
			if out, err := cmd.Output(); err != nil {
				t.Skipf("strace: %v: %s%s", err, out, table.Bytes())
			}
			for line := range strings.Lines(table.String()) {
				if f := strings.Fields(line); len(f) > 3 && f[len(f)-1] == "total" {
					n, _ := strconv.Atoi(f[3])
					return n
				}
			}
			t.Skipf("strace: no total: %s", table.Bytes())
			return 0
		}
		got := float64(calls(rounds)-calls(0)) / rounds
		t.Logf("%s: %.2f system calls for each sample", tier, got)
		if got > most+0.1 || got < 1 {
			t.Errorf("%s: %.2f system calls for each sample, want at most %.0f", tier, got, most)
		}
	}
}
