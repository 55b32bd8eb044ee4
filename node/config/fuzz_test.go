package config

import (
	"errors"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

// FuzzLoad: whatever the bytes, there is a configuration whose values print and
// load again as the same, or Errors whose places exist (row 36, row 59, row 60).
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.toml")
	for _, file := range append(files, exampleFile) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "EFFISCALE_NODE_MODE=auto")
	}
	f.Add([]byte("a={b={c={d={e={f={g={h={i={j=1}}}}}}}}}}"), "EFFISCALE_")
	f.Add([]byte("[policy]\r\ncpu_min = 1\r\n"), "EFFISCALE_POLICY_WEIGHT=1")
	f.Add([]byte("[cluster]\nbind = '0.0.0.0:65535'\nadvertise = '::1'\nrelay = ':0'\njoin = ['[::1]:1', 'a', '::']\n"+
		"key_file = '/k'\nallow = ['::/0']\n"), "EFFISCALE_CLUSTER_JOIN=a,[::1]:70000,fe80::1%eth0")
	f.Add([]byte("[cluster]\nbind = '[::ffff:127.0.0.1]:7946'\n"), "EFFISCALE_CLUSTER_PACKET_SIZE=511")
	f.Fuzz(func(t *testing.T, data []byte, env string) {
		c, err := decode("f", data, []string{env})
		if err != nil {
			problems, ok := errors.AsType[Errors](err)
			if !ok || len(problems) == 0 || len(problems) > maxReported+1 {
				t.Fatalf("%d problems: %v", len(problems), err)
			}
			lines := strings.Count(string(data), "\n") + 1
			for _, p := range problems {
				if p.Origin.Source == FromFile && (p.Origin.Line < 1 || p.Origin.Line > lines || p.Origin.Column < 1) {
					t.Fatalf("no such place: %+v", p)
				}
				if printable(strings.ReplaceAll(p.Excerpt, "\n", "")) != p.Excerpt {
					t.Fatalf("not fit to print: %q", p.Excerpt)
				}
			}
			return
		}
		checkBounds(t, c.PolicyFor(knowledge.Container{Name: "x"}))
		checkReach(t, &c.Cluster)
		again, err := decode("f", []byte(c.Effective()), nil)
		if err != nil {
			t.Fatalf("what it prints does not load: %v\n%s", err, c.Effective())
		}
		if !reflect.DeepEqual(withoutOrigins(again), withoutOrigins(c)) {
			t.Fatalf("what it prints loads as something else:\n%s", c.Effective())
		}
	})
}

// FuzzLabel: whatever stands in a label, the policy keeps its bounds, and what
// could not be read turns automation off (row 57).
func FuzzLabel(f *testing.F) {
	for _, l := range plainLabels() {
		f.Add(l.name, l.example)
	}
	for _, v := range []string{
		"1e308", "-1", "１", "nan", "0..0", "1..2", "99999999999999999999", "1T", "\x00", "..", "%", "100%", "5s",
	} {
		f.Add("cpu", v)
		f.Add("memory", v)
		f.Add("weight", v)
		f.Add("start-boost-for", v)
		f.Add("cpu.target", v)
	}
	c := Defaults()
	f.Fuzz(func(t *testing.T, name, value string) {
		p := c.PolicyFor(knowledge.Container{Name: "x", Labels: map[string]string{
			"effiscale.enable": "true", labelPrefix + name: value,
		}})
		checkBounds(t, p)
		if len(p.Problems) > 0 && (p.Managed || p.Acts()) {
			t.Fatalf("managed in spite of %q", p.Problems)
		}
		for _, problem := range p.Problems {
			unprintable := func(r rune) bool { return r < 0x20 || r > 0x7e && r != '…' }
			if len(problem) > 1000 || strings.ContainsFunc(problem, unprintable) {
				t.Fatalf("not fit to print: %q", problem)
			}
		}
	})
}

// checkBounds holds for every policy, whatever was written where.
func checkBounds(t *testing.T, p knowledge.Policy) {
	t.Helper()
	ok := p.CPU.Min >= leastCPU && p.CPU.Min <= knowledge.MaxCPU && p.CPU.Max >= 0 && p.CPU.Max <= knowledge.MaxCPU &&
		p.Memory.Min >= leastMemory && p.Memory.Min <= knowledge.MaxBytes && p.Memory.Max >= 0 &&
		p.Memory.Max <= knowledge.MaxBytes &&
		p.ThrottleTarget >= 0.001 && p.ThrottleTarget <= 0.5 && (p.CPUPercentile == 0 || p.CPUPercentile >= 0.1) &&
		p.CPUPercentile <= 1 &&
		p.MemoryPercentile >= 0.5 && p.MemoryPercentile <= 1 && p.Weight >= 1 &&
		p.Weight <= 100 &&
		p.CPUTarget >= 0 && p.CPUTarget <= 0.95 && p.MemoryTarget >= 0 && p.MemoryTarget <= 0.95 && p.ShrinksPerDay >= 0 &&
		p.ObserveFirst > 0 && p.ShrinkAfter > 0 && p.OOMProtect > 0 && p.YieldFor >= 0
	if len(p.Problems) == 0 {
		ok = ok && (p.CPU.Max == 0 || p.CPU.Min <= p.CPU.Max) && (p.Memory.Max == 0 || p.Memory.Min <= p.Memory.Max)
	}
	if !ok {
		t.Fatalf("out of bounds: %+v", p)
	}
}

// checkReach holds for every cluster: without a key nobody else can join, and what
// is told to others can be dialled.
func checkReach(t *testing.T, c *Cluster) {
	t.Helper()
	if c.KeyFile == "" && !(c.BindAddress().Addr().IsLoopback() && c.RelayAddress().Addr().IsLoopback()) {
		t.Fatalf("open to strangers: %+v", c)
	}
	host, _ := c.AdvertiseAddress(1)
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		t.Fatalf("tells others %s", host)
	}
	for _, p := range c.Peers() {
		if host, port, err := net.SplitHostPort(p); err != nil || host == "" || port == "" || port == "0" {
			t.Fatalf("cannot be dialled: %q", p)
		}
	}
}

// TestTextRoundTrips: what a value prints is read as the same value.
func TestTextRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := knowledge.Bytes(rapid.Int64Range(0, int64(knowledge.MaxBytes)).Draw(t, "size"))
		if got, err := bare(formatSize(size)).size(); err != nil || math.Abs(float64(got-size)) > float64(size)*1e-15 {
			t.Fatalf("%s: %d, %v", formatSize(size), got, err)
		}
		span := time.Duration(rapid.Int64Range(0, int64(200*time.Hour)).Draw(t, "span"))
		if got, err := bare(knowledge.Span(span)).span(); err != nil || got != span {
			t.Fatalf("%s: %v, %v", knowledge.Span(span), got, err)
		}
		share := float64(rapid.IntRange(0, 10000).Draw(t, "share")) / 10000
		if got, err := bare(formatShare(share)).share(); err != nil || math.Abs(got-share) > 1e-12 {
			t.Fatalf("%s: %v, %v", formatShare(share), got, err)
		}
		cpu := knowledge.NanoCPU(rapid.Int64Range(int64(leastCPU), int64(knowledge.MaxCPU)).Draw(t, "cpu"))
		var back knowledge.NanoCPU
		f := coresField{p: &back, least: leastCPU, most: knowledge.MaxCPU}
		if err := f.set(bare(formatNumber(cpu.Cores()))); err != nil || back != cpu {
			t.Fatalf("%d: %d, %v", cpu, back, err)
		}
		text := rapid.String().Draw(t, "text")
		entries, faults := parse([]byte("k = " + quote(text)))
		if len(faults) > 0 || entries[0].value.text != text {
			t.Fatalf("%q: %v", quote(text), faults)
		}
	})
}

// TestSuggestAgainstEdits: one random edit of a key is undone by Suggest.
func TestSuggestAgainstEdits(t *testing.T) {
	words := []string{"monitor", "controller", "execution", "socket", "data_dir", "oom_protect", "throttle_target"}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom(words).Draw(t, "word")
		i := rapid.IntRange(0, len(word)-2).Draw(t, "at")
		var typo string
		switch rapid.IntRange(0, 3).Draw(t, "edit") {
		case 0:
			typo = word[:i] + word[i+1:]
		case 1:
			typo = word[:i] + "q" + word[i:]
		case 2:
			typo = word[:i] + "q" + word[i+1:]
		case 3:
			typo = word[:i] + string(word[i+1]) + string(word[i]) + word[i+2:]
		}
		if got := Suggest(typo, words); got != word {
			t.Fatalf("%s for %s, not %s", got, typo, word)
		}
	})
}
