package cgroup

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// numbers that no field may swallow: FAULTS row 36.
var absurd = []string{
	"", " ", "-", "-5", "+5", "NaN", "nan", "Inf", "-Inf", "inf", "1e3", "0x10", "1.5", "1,000", "１", "12 34", "12x",
	"9223372036854775808", "18446744073709551615", "18446744073709551617", strings.Repeat("9", 300), "max ", "MAX",
}

// TestAbsurdNumbers puts each absurd number into each file: its group is not
// set, an error names the file, and all other groups are read. FAULTS row 36.
func TestAbsurdNumbers(t *testing.T) {
	type spot struct {
		tree, file, format string
		loses              knowledge.Signals
	}
	for _, spot := range []spot{
		{"v1", "cpuacct.usage", "%\n", knowledge.HasCPU},
		{"v1", "cpu.stat", "nr_periods %\nnr_throttled 1\nthrottled_time 1\n", knowledge.HasThrottle},
		{"v1", "cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time %\n", knowledge.HasThrottle},
		{"v1", "memory.usage_in_bytes", "%\n", knowledge.HasMemory},
		{"v1", "memory.stat", "total_rss %\ntotal_inactive_file 1\n", knowledge.HasMemoryStat},
		{"v1", "memory.stat", "total_rss 1\ntotal_inactive_file 1\ntotal_shmem %\n", knowledge.HasMemoryStat},
		{"v1", "memory.oom_control", "oom_kill %\n", knowledge.HasOOM},
		{"v1", "memory.failcnt", "%\n", knowledge.HasOOM},
		{"v1", "cpu.cfs_quota_us", "%\n", knowledge.HasLimits},
		{"v1", "cpu.cfs_period_us", "%\n", knowledge.HasLimits},
		{"v1", "pids.current", "%\n", knowledge.HasPids},
		{"v1", "blkio.throttle.io_service_bytes_recursive", "8:0 Read %\n", knowledge.HasIO},
		{"v2-systemd", "cpu.stat", "usage_usec %\nnr_periods 1\nnr_throttled 1\nthrottled_usec 1\n",
			knowledge.HasCPU | knowledge.HasThrottle},
		{"v2-systemd", "cpu.stat", "usage_usec 1\nnr_periods 1\nnr_throttled 1\nthrottled_usec %\n",
			knowledge.HasCPU | knowledge.HasThrottle},
		{"v2-systemd", "memory.current", "%\n", knowledge.HasMemory},
		{"v2-systemd", "memory.stat", "anon %\ninactive_file 1\n", knowledge.HasMemoryStat},
		{"v2-systemd", "memory.events", "high 1\nmax 1\noom 1\noom_kill %\n", knowledge.HasOOM},
		{"v2-systemd", "memory.high", "%\n", knowledge.HasLimits},
		{"v2-systemd", "cpu.max", "% 100000\n", knowledge.HasLimits},
		{"v2-systemd", "cpu.max", "20000 %\n", knowledge.HasLimits},
		{"v2-systemd", "cpu.pressure", "some avg10=% avg60=0.00 avg300=0.00 total=0\n", knowledge.HasCPUPressure},
		{"v2-systemd", "io.stat", "8:0 rbytes=% wbytes=1\n", knowledge.HasIO},
		{"v2-systemd", "dev", "eth0: 1 1 1 1 1 1 1 1 %\n", knowledge.HasNetwork},
	} {
		h := tree(t, spot.tree, Options{})
		c := attach(t, h)
		all := knowledge.FastTier | knowledge.SlowTier
		if spot.tree == "v1" {
			all &^= knowledge.HasCPUPressure | knowledge.HasMemoryPressure | knowledge.HasIOPressure
		}
		for _, number := range absurd {
			fields := spot.file == "cpu.pressure" || spot.file == "io.stat" || spot.file == "dev"
			if fields && number == "12 34" || spot.file == "cpu.pressure" && number == "1.5" {
				continue // good there
			}
			text := strings.ReplaceAll(spot.format, "%", number)
			rewrite(t, h, spot.file, text)
			var s knowledge.Sample
			err := c.Read(&s, knowledge.FastTier)
			if err == nil {
				err = c.Read(&s, knowledge.SlowTier)
			} else if err2 := c.Read(&s, knowledge.SlowTier); err2 != nil {
				t.Errorf("%s: %.60q: a second error: %v", spot.file, text, err2)
			}
			if err == nil || !strings.Contains(err.Error(), h.root) {
				t.Errorf("%s: %.60q: error %v does not name the file", spot.file, text, err)
			}
			if want := all &^ spot.loses; s.Have != want {
				t.Errorf("%s: %.60q: have %b, want %b", spot.file, text, s.Have, want)
			}
		}
	}
}

// TestHugeLimits: what no machine has is no limit; a quota is bounded.
func TestHugeLimits(t *testing.T) {
	for text, want := range map[string]knowledge.Bytes{
		"max\n": 0, "9223372036854771712\n": 0, "9223372036854775807\n": 0, "67108864\n": 64 << 20, "0\n": 0,
	} {
		if got, err := limit([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for text, want := range map[string]knowledge.NanoCPU{
		"max 100000\n": 0, "20000 100000\n": 200e6, "1000 1000000\n": 1e6, "33333 100000\n": 333330000,
		"9223372036854775807 1000\n": knowledge.MaxCPU, "409600000 100000\n": knowledge.MaxCPU, "1 3\n": 333333333,
	} {
		var s knowledge.Sample
		if err := parseCPUMax([]byte(text), &s); err != nil || s.Quota != want {
			t.Errorf("%q: %d, %v", text, s.Quota, err)
		}
	}
}

// TestTruncated cuts files at every byte: a cut file is refused or tells the
// truth, never half a number.
func TestTruncated(t *testing.T) {
	want := fastWant()
	text := "usage_usec 655748\nnr_periods 32\nnr_throttled 31\nthrottled_usec 2507887\n"
	for n := range len(text) {
		var s knowledge.Sample
		if err := parseCPUStat([]byte(text[:n]), &s, true); err != nil {
			continue
		}
		if s.CPUUsage != want.CPUUsage || s.Have&knowledge.HasThrottle != 0 {
			t.Errorf("%q: %+v", text[:n], s)
		}
	}
	text = "8:0 rbytes=1466368 wbytes=4096 rios=20\n"
	for n := range len(text) {
		var s knowledge.Sample
		if err := parseIOV2([]byte(text[:n]), &s); err != nil || s.ReadBytes != 0 {
			t.Errorf("%q: %d, %v", text[:n], s.ReadBytes, err)
		}
	}
}

// TestOlderKernels reads what older kernels tell, and does not call it an error.
func TestOlderKernels(t *testing.T) {
	var s knowledge.Sample
	text := "anon 5\nfile 6\nkernel_stack 1\npagetables 2\ninactive_file 3\nslab 4\nworkingset_refault 9\n"
	if err := parseMemoryStat([]byte(text), &s, true); err != nil || s.Kernel != 7 || s.Refaults != 9 {
		t.Errorf("Linux 5.4, memory.stat: %+v, %v", s, err)
	}
	if err := parseOOMControl([]byte("oom_kill_disable 0\nunder_oom 0\n"), &s); err != errAbsent {
		t.Errorf("Linux 4.12, memory.oom_control: %v", err)
	}
	var p knowledge.Pressure
	if err := parsePressure([]byte("some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n"), &p); err != nil || p.Some60 != 2 {
		t.Errorf("Linux 5.4, cpu.pressure: %+v, %v", p, err)
	}
	s = knowledge.Sample{}
	if err := parseCPUStat([]byte("usage_usec 5\nuser_usec 5\nsystem_usec 0\n"), &s, true); err != nil ||
		s.Have != knowledge.HasCPU || s.CPUUsage != 5*time.Microsecond {
		t.Errorf("no cpu controller: %+v, %v", s, err)
	}
	if err := parseIOV1([]byte("Total 0\n"), &s); err != errAbsent {
		t.Errorf("Linux 6.18, blkio without accounting: %v", err)
	}
}

// sane holds for every sample, whatever the files said.
func sane(t *testing.T, s *knowledge.Sample) {
	t.Helper()
	for _, b := range []knowledge.Bytes{s.MemoryUsage, s.Anon, s.File, s.InactiveFile, s.Shmem, s.Unevictable,
		s.MemoryLimit, s.MemoryHigh} {
		if b < 0 || b > knowledge.MaxBytes {
			t.Errorf("size %d", b)
		}
	}
	for _, p := range []knowledge.Pressure{s.CPUPressure, s.MemoryPressure, s.IOPressure} {
		for _, v := range []float64{p.Some10, p.Some60, p.Some300, p.Full10, p.Full60} {
			if !(v >= 0 && v <= 100) {
				t.Errorf("pressure %v", v)
			}
		}
	}
	if s.CPUUsage < 0 || s.ThrottledTime < 0 || s.Quota < 0 || s.Quota > knowledge.MaxCPU || s.Pids < 0 ||
		s.Period < 0 || s.Period > maxPeriod {
		t.Errorf("negative or absurd: %+v", s)
	}
	for _, v := range []uint64{s.Periods, s.Throttled, s.OOM, s.OOMKills, s.HighEvents, s.MaxEvents, s.ReadBytes,
		s.WriteBytes, s.RxBytes, s.TxBytes} {
		if v > math.MaxInt64 {
			t.Errorf("counter %d", v)
		}
	}
}

// fuzzParser feeds one parser. A sample is looked at only when it was accepted.
func fuzzParser(f *testing.F, parse func([]byte, *knowledge.Sample) error, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again knowledge.Sample
		err := parse(b, &s)
		if err == nil {
			sane(t, &s)
		}
		if err2 := parse(b, &again); err != err2 || s != again {
			t.Error("the same content was read in two ways")
		}
	})
}

// version is a parser for both versions, for one.
func version(parse func([]byte, *knowledge.Sample, bool) error, v2 bool) func([]byte, *knowledge.Sample) error {
	return func(b []byte, s *knowledge.Sample) error { return parse(b, s, v2) }
}

func FuzzCPUStatV1(f *testing.F) {
	fuzzParser(f, version(parseCPUStat, false), "nr_periods 32\nnr_throttled 31\nthrottled_time 2507887209\n")
}

func FuzzCPUStatV2(f *testing.F) {
	fuzzParser(f, version(parseCPUStat, true),
		"usage_usec 655748\nnr_periods 32\nnr_throttled 31\nthrottled_usec 9223372036854775807\n")
}

func FuzzMemoryStatV1(f *testing.F) {
	fuzzParser(f, version(parseMemoryStat, false),
		"total_rss 1\ntotal_inactive_file 2\ntotal_workingset_refault_anon 9223372036854775807\n")
}

func FuzzMemoryStatV2(f *testing.F) {
	fuzzParser(f, version(parseMemoryStat, true),
		"anon 1\ninactive_file 2\nslab 3\nworkingset_refault_file 9223372036854775807\n")
}

func FuzzEvents(f *testing.F) {
	fuzzParser(f, parseEvents, "low 0\nhigh 5\nmax 17\noom 2\noom_kill 2\n")
}

func FuzzOOMControl(f *testing.F) {
	fuzzParser(f, parseOOMControl, "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
}

func FuzzCPUMax(f *testing.F) { fuzzParser(f, parseCPUMax, "max 100000\n", "20000 100000\n") }

func FuzzPressure(f *testing.F) {
	fuzzParser(f, func(b []byte, s *knowledge.Sample) error { return parsePressure(b, &s.CPUPressure) },
		"some avg10=8.33 avg60=1.50 avg300=0.31 total=1480204\nfull avg10=7.97 avg60=1.43 avg300=100.01 total=1\n")
}

func FuzzIOV1(f *testing.F) { fuzzParser(f, parseIOV1, "8:0 Read 1466368\n8:0 Write 4096\nTotal 5\n") }

func FuzzIOV2(f *testing.F) {
	fuzzParser(f, parseIOV2, "8:0 rbytes=9223372036854775807 wbytes=4096 rios=20\n8:1 rbytes=1\n253:0 \n")
}

func FuzzNetDev(f *testing.F) {
	fuzzParser(f, parseNetDev, "Inter-| x\n face |bytes\n"+
		"  eth0:    1042      11    0    0    0     0          0         0      730       9\n lo: 1\n")
}

// FuzzNumbers covers the files of one number and of one limit.
func FuzzNumbers(f *testing.F) {
	fuzzParser(f, func(b []byte, s *knowledge.Sample) (err error) {
		if s.MemoryLimit, err = limit(b); err != nil {
			return err
		}
		s.Period = 100 * time.Millisecond
		if err = parseQuotaV1(b, s); err != nil {
			return err
		}
		if err = parseNumber(cpuUsage, b, s); err != nil {
			return err
		}
		return parseNumber(memoryUsage, b, s)
	}, "19714048\n", "max\n", "-1\n", "9223372036854771712\n", "18446744073709551615\n")
}
