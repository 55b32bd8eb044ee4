package plan

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

func fleetPolicy() knowledge.Policy {
	return knowledge.Policy{
		Managed: true, Mode: knowledge.ModeAuto, CPU: knowledge.Range[knowledge.NanoCPU]{Min: knowledge.OneCPU / 20},
		Memory: knowledge.Range[knowledge.Bytes]{Min: 32 * knowledge.MiB}, ThrottleTarget: 0.06, CPUPercentile: 0.95,
		MemoryPercentile: 0.98,
		MemoryShrink:     true, ObserveFirst: time.Minute,
	}
}

func reportOf(host string, f Facts) Report {
	return Report{Service: "shop", Host: knowledge.NodeID(host), CPUs: 4, Memory: 8 * knowledge.GiB,
		Replicas: []Reported{{ID: knowledge.ContainerID("c-" + host), Policy: fleetPolicy(), Facts: f}}}
}

func known(cores float64, mem knowledge.Bytes, since time.Duration) Facts {
	c := knowledge.FromCores(cores)
	return Facts{ObservedFor: since, CPU: c, CPUMax: c, MemoryNeed: mem, MemoryPeak: mem}
}

// TestDeclareIsDeliberate: for one host an owner's word is what the host would have
// thought itself, so that a single host is a cluster of one.
func TestDeclareIsDeliberate(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := reportOf("a", known(1, knowledge.GiB, 3*time.Hour))
	got := Declare(now, []Report{r}, "a")
	c := &r.Replicas[0]
	want := Deliberate(now, c.Facts, &c.Policy, knowledge.Host{CPUs: 4, Memory: 8 * knowledge.GiB},
		knowledge.Envelope{At: now})
	if len(got) != 1 || got[0].ID != "c-a" || got[0].Envelope != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if Declare(now, []Report{r}, "b") != nil {
		t.Error("envelopes for a host that reported nothing")
	}
	// Said again with its own word in force, nothing changes but the instant.
	c.Envelope, c.Stood = got[0].Envelope, time.Minute
	again := Declare(now.Add(time.Minute), []Report{r}, "a")
	if !Same(&again[0].Envelope, &got[0].Envelope) {
		t.Errorf("again: %+v, before %+v", again[0].Envelope, got[0].Envelope)
	}
}

// TestOthersTeach: a host that has just got its first replica begins with what the
// other hosts know of the service; one liar among three does not move it.
func TestOthersTeach(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	honest := []Report{
		reportOf("new", Facts{}), reportOf("a", known(0.8, 700*knowledge.MiB, 5*time.Hour)),
		reportOf("b", known(1, 800*knowledge.MiB, 4*time.Hour)),
	}
	alone := Declare(now, honest[:1], "new")[0].Envelope
	taught := Declare(now, honest, "new")[0].Envelope
	if alone.Learned || !taught.Learned || taught.CPU.Min <= alone.CPU.Min || taught.MemoryFloor < 700*knowledge.MiB {
		t.Errorf("alone %+v\ntaught %+v", alone, taught)
	}
	for _, lie := range []Facts{known(4, 8*knowledge.GiB, 1e6*time.Hour), known(0, 0, 1e6*time.Hour)} {
		e := Declare(now, append(honest, reportOf("liar", lie)), "new")[0].Envelope
		if e.CPU.Min < knowledge.FromCores(0.8) || e.CPU.Min > knowledge.FromCores(1.2) ||
			e.MemoryFloor < 600*knowledge.MiB || e.MemoryFloor > 900*knowledge.MiB {
			t.Errorf("a liar moved it to %+v", e)
		}
		mature := Declare(now, append(honest, reportOf("liar", lie)), "a")[0].Envelope
		if mature != Declare(now, honest, "a")[0].Envelope {
			t.Error("a liar moved a host that knows better")
		}
	}
}

// TestAbsurdReports (row 36): what no host can be is refused, with the figure.
func TestAbsurdReports(t *testing.T) {
	good := reportOf("a", known(1, knowledge.GiB, 3*time.Hour))
	if err := good.Check(nil); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Report){
		"more cores than there are":  func(r *Report) { r.Replicas[0].Facts.CPUMax = 5 * knowledge.OneCPU },
		"negative cores":             func(r *Report) { r.Replicas[0].Facts.CPU = -1 },
		"more memory than there is":  func(r *Report) { r.Replicas[0].WorkingSet = 9 * knowledge.GiB },
		"not a number":               func(r *Report) { r.Replicas[0].Facts.Forecast.Gain = math.NaN() },
		"infinite":                   func(r *Report) { r.Replicas[0].Policy.CPUPercentile = math.Inf(1) },
		"an endless advice":          func(r *Report) { r.Replicas[0].Facts.Advice.CPU = math.MaxInt64 },
		"no cores":                   func(r *Report) { r.CPUs = 0 },
		"no memory":                  func(r *Report) { r.Memory = 0 },
		"no name":                    func(r *Report) { r.Service = "../x" },
		"too many":                   func(r *Report) { r.Replicas = make([]Reported, ReplicasMost+1) },
		"time that has not begun":    func(r *Report) { r.Replicas[0].Stood = -1 },
		"a policy beyond everything": func(r *Report) { r.Replicas[0].Policy.CPU.Max = math.MaxInt64 },
		"a count that runs back":     func(r *Report) { r.Replicas[0].Facts.ObservedFor = time.Hour },
	} {
		bad := reportOf("a", known(1, knowledge.GiB, 3*time.Hour))
		spoil(&bad)
		if bad.Check(&good) == nil {
			t.Errorf("%s was taken", name)
		}
	}
	wild := reportOf("a", known(1, knowledge.GiB, 3*time.Hour))
	wild.Replicas[0].Facts.CPUMax, wild.Replicas[0].Facts.MemoryPeak = 90*knowledge.OneCPU, knowledge.MaxBytes
	wild.Replicas[0].Plausible(wild.CPUs, wild.Memory)
	if err := wild.Check(&good); err != nil {
		t.Errorf("an estimate that was brought under the bounds is refused: %v", err)
	}
}

// TestConfine: whatever comes over a wire, a host stays inside its own policy.
func TestConfine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cpu := rapid.Int64()
		anyCPU := func(name string) knowledge.NanoCPU { return knowledge.NanoCPU(cpu.Draw(t, name)) }
		anyBytes := func(name string) knowledge.Bytes { return knowledge.Bytes(cpu.Draw(t, name)) }
		p := fleetPolicy()
		p.CPU.Max = knowledge.FromCores(rapid.Float64Range(0.05, 8).Draw(t, "most"))
		p.Memory.Max = knowledge.Bytes(rapid.Int64Range(int64(64*knowledge.MiB), int64(32*knowledge.GiB)).Draw(t, "memory"))
		host := knowledge.Host{CPUs: rapid.IntRange(1, 8).Draw(t, "cpus"),
			Memory: knowledge.Bytes(rapid.Int64Range(int64(knowledge.GiB), int64(64*knowledge.GiB)).Draw(t, "host"))}
		e := Confine(knowledge.Envelope{
			CPU:            knowledge.Range[knowledge.NanoCPU]{Min: anyCPU("floor"), Max: anyCPU("ceiling")},
			ThrottleTarget: rapid.Float64().Draw(t, "throttle"),
			Memory:         anyBytes("want"), MemoryFloor: anyBytes("memory floor"), MemoryCeiling: anyBytes("memory ceiling"),
			FirstCPU: anyCPU("first"), FirstMemory: anyBytes("first memory"), LearnedCPU: anyCPU("learned"),
			ForecastCPU: anyCPU("forecast"),
		}, &p, host)
		top := min(p.CPU.Max, knowledge.NanoCPU(host.CPUs)*knowledge.OneCPU)
		switch {
		case e.CPU.Min < 0 || e.CPU.Max > top || e.CPU.Min > e.CPU.Max || e.FirstCPU < 0 || e.FirstCPU > top:
			t.Fatalf("cpu %+v of at most %v", e, top)
		case e.Memory < 0 || e.Memory > p.Memory.Max || e.MemoryFloor > p.Memory.Max || e.MemoryFloor < 0 ||
			e.MemoryCeiling > p.Memory.Max || e.Memory > host.Memory:
			t.Fatalf("memory %+v of at most %v", e, p.Memory.Max)
		case !(e.ThrottleTarget > 0 && e.ThrottleTarget <= 1):
			t.Fatalf("throttle target %g", e.ThrottleTarget)
		}
	})
}

func TestCuts(t *testing.T) {
	base := knowledge.Envelope{CPU: knowledge.Range[knowledge.NanoCPU]{Min: 5, Max: 10}, Memory: 20, MemoryFloor: 10}
	for i, less := range []func(*knowledge.Envelope){
		func(e *knowledge.Envelope) { e.CPU.Min-- }, func(e *knowledge.Envelope) { e.CPU.Max-- },
		func(e *knowledge.Envelope) { e.Memory-- }, func(e *knowledge.Envelope) { e.MemoryFloor-- },
	} {
		next := base
		less(&next)
		if !Cuts(&next, &base) || Cuts(&base, &next) {
			t.Error(fmt.Sprint(i, ": a cut is not seen, or growth is taken for one"))
		}
		if kept := WithoutCuts(next, base); Cuts(&kept, &base) {
			t.Errorf("%d: %+v still cuts", i, kept)
		}
	}
}

// TestConfineLeavesNoWayAround: what another node declares cannot go under the
// policy's bounds, nor touch what policy and host alone decide.
func TestConfineLeavesNoWayAround(t *testing.T) {
	p := knowledge.Policy{Managed: true, ThrottleTarget: 0.06}
	p.CPU.Min, p.Memory.Min = knowledge.OneCPU/2, 256*knowledge.MiB
	host := knowledge.Host{CPUs: 4, Memory: 8 * knowledge.GiB}
	lie := knowledge.Envelope{
		CPU: knowledge.Range[knowledge.NanoCPU]{Min: 1, Max: 1}, ThrottleTarget: 1, Memory: 1, MemoryFloor: 1,
		MemoryCeiling: knowledge.MiB,
		FirstCPU:      1, FirstMemory: 1,
		Reason: knowledge.Reason{Rule: knowledge.Rule(strings.Repeat("x", 1<<20)), Note: "y"},
		Forecast: knowledge.Reason{Rule: knowledge.RuleNoProfile, Note: strings.Repeat("z", 1<<20),
			Args: [4]float64{math.NaN(), math.Inf(1), 3}},
	}
	e := Confine(lie, &p, host)
	if e.CPU.Min < p.CPU.Min || e.CPU.Max < p.CPU.Min || e.Memory < p.Memory.Min || e.MemoryFloor < p.Memory.Min ||
		e.FirstCPU < p.CPU.Min || e.FirstMemory < p.Memory.Min {
		t.Errorf("under the policy's bounds: %+v", e)
	}
	if e.ThrottleTarget != 0.06 || e.MemoryCeiling != memoryCeiling(&p, host) {
		t.Errorf("a throttle target of %g, a ceiling of %s", e.ThrottleTarget, e.MemoryCeiling)
	}
	if !e.Reason.IsZero() || e.Forecast.Note != "" || e.Forecast.Args != [4]float64{0, 0, 3} {
		t.Errorf("reasons of %d and %d bytes, numbers %v", len(e.Reason.Rule), len(e.Forecast.Note), e.Forecast.Args)
	}
}
