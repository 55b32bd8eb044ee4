package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// labelled is a container with labels written as "name=value", without prefix.
func labelled(pairs ...string) knowledge.Container {
	labels := map[string]string{}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		labels[labelPrefix+name] = value
	}
	return knowledge.Container{Name: "web-1", Labels: labels}
}

func TestPolicyLayers(t *testing.T) {
	c, err := decode("f", []byte(`
[node]
mode = "recommend"
[policy]
weight = 40
cpu_max = 8
[class.batch]
weight = 10
[service.web]
class = "latency"
mode = "auto"
cpu_min = 0.5
weight = 90
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	web := func(pairs ...string) knowledge.Container { return labelled(append(pairs, "service=web")...) }
	for _, tc := range []struct {
		name string
		ctr  knowledge.Container
		want func(p knowledge.Policy) bool
	}{
		{"nothing said", knowledge.Container{Name: "x"}, func(p knowledge.Policy) bool {
			return !p.Managed && p.Mode == knowledge.ModeObserve && p.Class == knowledge.ClassServing && p.Weight == 40 &&
				p.CPUSource == "default"
		}},
		{"opted in", labelled("enable=true"), func(p knowledge.Policy) bool {
			return p.Managed && p.Mode == knowledge.ModeRecommend && p.ThrottleTarget == 0.06
		}},
		{"opted out by word", labelled("enable=false", "mode=auto"), func(p knowledge.Policy) bool {
			return !p.Managed && p.Mode == knowledge.ModeObserve && !p.Acts()
		}},
		{"off stays off", labelled("mode=off"), func(p knowledge.Policy) bool { return p.Mode == knowledge.ModeOff }},
		{"label over the node's mode", labelled("enable=true", "mode=auto"),
			func(p knowledge.Policy) bool { return p.Acts() }},
		{"class by label", labelled("enable=true", "class=batch"), func(p knowledge.Policy) bool {
			return p.Class == knowledge.ClassBatch && p.Weight == 10 && p.ThrottleTarget == 0.1 && p.Percentile() == 0.5
		}},
		{"service table", web("enable=true"), func(p knowledge.Policy) bool {
			return p.Class == knowledge.ClassLatency && p.ThrottleTarget == 0.02 && p.CPU.Min == knowledge.OneCPU/2 &&
				p.CPU.Max == 8*knowledge.OneCPU &&
				p.Weight == 90 && p.CPUSource == "service" && p.Acts()
		}},
		{"class label over the table's class, table over the class", web("enable=true", "class=batch"),
			func(p knowledge.Policy) bool {
				return p.Class == knowledge.ClassBatch && p.ThrottleTarget == 0.1 && p.Weight == 90
			}},
		{"labels over all", web("enable=true", "cpu=0.25..2", "memory=128MiB..1GiB", "weight=7", "cpu.target=70%",
			"memory.target=0.8"), func(p knowledge.Policy) bool {
			return p.CPU == (knowledge.Range[knowledge.NanoCPU]{Min: 250e6, Max: 2e9}) &&
				p.Memory == (knowledge.Range[knowledge.Bytes]{Min: 128 * knowledge.MiB, Max: knowledge.GiB}) &&
				p.Weight == 7 && p.CPUTarget == 0.7 && p.MemoryTarget == 0.8 && p.CPUSource == "label" && p.MemorySource == "label"
		}},
		{"Docker's sizes", labelled("memory=512m..1g"), func(p knowledge.Policy) bool {
			return p.Memory == (knowledge.Range[knowledge.Bytes]{Min: 512 * knowledge.MiB, Max: knowledge.GiB})
		}},
		{"plain bytes", labelled("memory=134217728..268435456"), func(p knowledge.Policy) bool {
			return p.Memory == (knowledge.Range[knowledge.Bytes]{Min: 128 * knowledge.MiB, Max: 256 * knowledge.MiB})
		}},
		{"knobs by label", labelled("cpu.mode=weight", "throttle-target=3%", "start-boost=4", "start-boost-for=90s",
			"yield-for=0s", "memory.shrink=false", "priority=80", "allow=gpu, runtime"), func(p knowledge.Policy) bool {
			return p.CPUMode == knowledge.CPUWeight && p.ThrottleTarget == 0.03 && p.YieldFor == 0 &&
				!p.MemoryShrink && p.Weight == 80 && len(p.Allow) == 2 && p.Allow[1] == "runtime"
		}},
		{"labels of the service", labelled("enable=true", "mode=auto", "replicas=1..5",
			"replicas.target=latency_p95=250ms", "port=8080", "listen=http://app.local", "drain=30s", "ready-after=0s",
			"clone-of=abc", "demo=1"), func(p knowledge.Policy) bool {
			s, latency := p.Service, 250*time.Millisecond
			return p.Acts() && *s.Replicas == knowledge.ReplicaRange{Min: 1, Max: 5} && s.Port == 8080 &&
				s.Target == knowledge.ReplicaTarget{Signal: knowledge.TargetLatency, Quantile: 0.95, Latency: latency} &&
				s.Listen == knowledge.Listen{Scheme: "http", Host: "app.local"} && *s.Drain == 30*time.Second && *s.ReadyAfter == 0
		}},
		{"no labels of the service", labelled("enable=true"), func(p knowledge.Policy) bool {
			return p.Service == knowledge.ServicePolicy{}
		}},
		{"another service", knowledge.Container{Name: "x", Service: "we_b"},
			func(p knowledge.Policy) bool { return p.Weight == 40 }},
		{"the service as the engine's adapter names it", knowledge.Container{Name: "x", Service: "web"},
			func(p knowledge.Policy) bool { return p.Weight == 90 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := c.PolicyFor(tc.ctr)
			if len(p.Problems) > 0 {
				t.Errorf("problems: %q", p.Problems)
			}
			if !tc.want(p) {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestClassPresets(t *testing.T) {
	c := Defaults()
	for class, want := range map[knowledge.Class]struct {
		throttle, cpu, memory float64
		shrinkAfter           time.Duration
	}{
		knowledge.ClassServing:  {0.06, 0.95, 0.98, 10 * time.Minute},
		knowledge.ClassLatency:  {0.02, 0.99, 0.98, 10 * time.Minute},
		knowledge.ClassBatch:    {0.10, 0.50, 0.98, 10 * time.Minute},
		knowledge.ClassDatabase: {0.04, 0.95, 1.00, 6 * time.Hour},
		knowledge.ClassJVM:      {0.06, 0.95, 1.00, 6 * time.Hour},
		knowledge.ClassCache:    {0.06, 0.95, 1.00, 24 * time.Hour},
	} {
		p := c.PolicyFor(labelled("enable=true", "class="+class.String()))
		if p.ThrottleTarget != want.throttle || p.Percentile() != want.cpu || p.MemoryPercentile != want.memory ||
			p.ShrinkAfter != want.shrinkAfter || !p.MemoryShrink || !p.Acts() {
			t.Errorf("%s: %+v", class, p)
		}
	}
}

// TestBadLabels is row 57: each is refused for its container alone, and the
// message names the label, the value and what is allowed.
func TestBadLabels(t *testing.T) {
	c := Defaults()
	for _, tc := range []struct{ label, want string }{
		{"cpu=1e308..2", `label effiscale.cpu="1e308..2" has a minimum that is not a plain number; ` +
			`allowed: min..max, each 0.01 to 4096`},
		{"cpu=0.1..1e308", "has a maximum that is not a plain number"},
		{"cpu=-1", "is not a range with two dots"},
		{"cpu=-1..2", "has a minimum that is not a plain number"},
		{"cpu=１..2", `label effiscale.cpu="\uff11..2" has a minimum that is not a plain number`},
		{"cpu=NaN..2", "not a plain number"},
		{"cpu=0.1..Inf", "not a plain number"},
		{"cpu=0x1..2", "not a plain number"},
		{"cpu=+1..2", "not a plain number"},
		{"cpu= 1..2", "not a plain number"},
		{"cpu=1..", "is not a range"},
		{"cpu=..2", "is not a range"},
		{"cpu=", "is not a range"},
		{"cpu=2", "is not a range"},
		{"cpu=1...2", "not a plain number"},
		{"cpu=0..2", "has a minimum that is too small"},
		{"cpu=1..5000", "has a maximum that is too large"},
		{"cpu=2..0.25", "has its minimum above its maximum"},
		{"memory=1GiB..128MiB", "has its minimum above its maximum"},
		{"memory=1..2", "has a minimum that is too small; allowed: min..max, each 6MiB to 1024TiB"},
		{"memory=128XiB..1GiB", "unknown unit"},
		{"memory=128MiB..99999999999TiB", "has a maximum that is too large"},
		{"memory=9223372036854775808..1g", "has a minimum that is too large"},
		{"cpu.target=0", "is too small; allowed: 10% to 95%"},
		{"cpu.target=2", "is too large"},
		{"cpu.target=170%", "is too large"},
		{"memory.target=%", "is not a plain number"},
		{"enable=yes", `label effiscale.enable="yes" is neither true nor false; allowed: true, false`},
		{"enable=True", "neither true nor false"},
		{"mode=atuo", `did you mean "auto"? Allowed: off, observe, recommend, auto`},
		{"class=databse", `did you mean "database"?`},
		{"service=a/../b", "is not a name"},
		{"service=", "is empty"},
		{"weight=0", "is too small; allowed: 1 to 100"},
		{"weight=1.5", "not a whole number"},
		{"priority=101", "is too large"},
		{"allow=gpu,nukes", "unknown word"},
		{"replicas=5", "is not a range"},
		{"replicas=5..1", "minimum above"},
		{"replicas=1..1001", "0 to 1000"},
		{"replicas.target=cpu", "cpu=70%"},
		{"replicas.target=speed=1", "names no target that is known"},
		{"port=0", "1 to 65535"},
		{"port=65536", "is too large"},
		{"listen=ftp://x", "is not an http address"},
		{"listen=http://", "is not an http address"},
		{"listen=8088", "is not host:port"},
		{"listen=http://app.local/?a=b", "has a query or a fragment"},
		{"listen=http://app.local/#a", "has a query or a fragment"},
		{"listen=http://app.local:99999", "no port from 0 to 65535"},
		{"drain=30", "has no unit; allowed: 0s to 1h"},
		{"drain=2h", "is too large"},
		{"ready-after=-5s", "is not a duration"},
		{"oom-protect=1ms", "is too small"},
		{"enbale=true", `label effiscale.enbale is not known; did you mean "effiscale.enable"?`},
		{"prot=80", `did you mean "effiscale.port"?`},
		{"cpu_target=70%", `did you mean "effiscale.cpu.target"?`},
		{"whatever=1", "label effiscale.whatever is not known"},
		{"cpu=" + strings.Repeat("9", 4000), "(4000 bytes) is too long; allowed: min..max"},
		{"clone-of=" + strings.Repeat("x", 4000), "is too long"},
		{"mode=\x1b[31m\x00", `"\x1b[31m\x00"`},
		{"\x1b[31m=1", `"effiscale.\x1b[31m"`},
	} {
		ctr := labelled("enable=true", "mode=auto")
		name, value, _ := strings.Cut(tc.label, "=")
		ctr.Labels[labelPrefix+name] = value
		p := c.PolicyFor(ctr)
		if len(p.Problems) != 1 || !strings.Contains(p.Problems[0], tc.want) {
			t.Errorf("%.60q: problems %q, want %q", tc.label, p.Problems, tc.want)
			continue
		}
		if p.Managed || p.Acts() || p.Mode > knowledge.ModeObserve {
			t.Errorf("%.60q: still managed", tc.label)
		}
		if len(p.Problems[0]) > 400 || strings.ContainsFunc(p.Problems[0], func(r rune) bool {
			return r < 0x20 || r > 0x7e &&
				r != '…'
		}) {
			t.Errorf("%.60q: not fit to print: %q", tc.label, p.Problems[0])
		}
		if other := c.PolicyFor(labelled("enable=true")); !other.Acts() {
			t.Errorf("%.60q: another container is affected", tc.label)
		}
	}
}

func TestBadLabelKeepsTheRest(t *testing.T) {
	c := Defaults()
	p := c.PolicyFor(labelled("enable=true", "cpu=2..1", "memory=64MiB..1GiB"))
	if p.CPU != c.Policy.CPU || p.Memory.Max != knowledge.GiB {
		t.Errorf("a bad range must leave the bounds alone, a good one must hold: %+v", p)
	}
	ctr := labelled("enable=true", "weight=10", "priority=20")
	if p := c.PolicyFor(ctr); len(p.Problems) != 1 || !strings.Contains(p.Problems[0], "disagree") {
		t.Errorf("%q", p.Problems)
	}
	ctr.Labels["EffiScale.Enable"] = "true"
	if p := c.PolicyFor(ctr); len(p.Problems) != 2 || !strings.Contains(p.Problems[0],
		`did you mean "effiscale.enable"?`) {
		t.Errorf("%q", p.Problems)
	}
}

// TestProblemsAreBounded: row 57, a container with thousands of bad labels.
func TestProblemsAreBounded(t *testing.T) {
	c := Defaults()
	ctr := labelled("enable=true")
	for i := range 5000 {
		ctr.Labels[labelPrefix+strings.Repeat("x", i%200+1)+string(rune('a'+i%26))] = strings.Repeat("y", 5000)
	}
	p := c.PolicyFor(ctr)
	if len(p.Problems) != maxProblems || p.Managed {
		t.Errorf("%d problems, managed %v", len(p.Problems), p.Managed)
	}
}

// TestCapsAboveLabels: row 57, a label asks for more than the operator allows.
func TestCapsAboveLabels(t *testing.T) {
	c, err := decode("f", []byte("[limits]\ncontainer_cpu_max = 2\ncontainer_memory_max = \"1GiB\"\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := c.PolicyFor(labelled("enable=true", "cpu=4..4096", "memory=64MiB..1T"))
	if p.CPU.Min != 2*knowledge.OneCPU || p.CPU.Max != 2*knowledge.OneCPU || p.Memory.Min != 64*knowledge.MiB ||
		p.Memory.Max != knowledge.GiB || !p.Acts() {
		t.Errorf("%+v", p)
	}
	if p := c.PolicyFor(labelled()); p.CPU.Max != 2*knowledge.OneCPU || p.Memory.Max != knowledge.GiB {
		t.Errorf("without a label: %+v", p)
	}
}

// TestBoundsThatMeetTooLate: each layer is fine, together they are not.
func TestBoundsThatMeetTooLate(t *testing.T) {
	c, err := decode("f", []byte("[class.batch]\ncpu_min = 3\nmemory_min = \"2GiB\"\n"+
		"[service.web]\ncpu_max = 2\nmemory_max = \"1GiB\"\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := c.PolicyFor(labelled("enable=true", "service=web", "class=batch"))
	if len(p.Problems) != 2 || p.Managed || !strings.Contains(p.Problems[0], "cpu_min 3.00 is above cpu_max 2.00") {
		t.Errorf("%+v", p)
	}
}

// TestDisagreements is row 58 on one host.
func TestDisagreements(t *testing.T) {
	make := func(name, cpu string) knowledge.Container {
		return knowledge.Container{Name: name, Service: "web", Labels: map[string]string{"effiscale.cpu": cpu}}
	}
	got := Disagreements([]knowledge.Container{make("web-3", "1..4"), make("web-1", "0.5..2"), make("web-2", "1..4")})
	want := `service "web": label effiscale.cpu is "0.5..2" on "web-1" and "1..4" on "web-2"; ` +
		`each container follows its own label`
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q", got)
	}
	if got := Disagreements([]knowledge.Container{make("a", "1..2"), make("b", "1..2")}); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestPolicyForDoesNotTouchTheConfig(t *testing.T) {
	c := Defaults()
	before := c.Effective()
	c.PolicyFor(labelled("enable=true", "cpu=1..2", "class=jvm", "weight=3", "mode=off", "start-boost=9"))
	if c.Effective() != before {
		t.Error("a label changed the configuration")
	}
}

func BenchmarkPolicyFor(b *testing.B) {
	c := Defaults()
	ctr := labelled("enable=true", "cpu=0.25..2", "memory=128MiB..1GiB", "class=jvm", "service=web")
	b.ReportAllocs()
	for b.Loop() {
		c.PolicyFor(ctr)
	}
}

func TestOnlyLabel(t *testing.T) {
	labels := map[string]string{"team": "blue", "on": ""}
	for only, want := range map[string]bool{
		"": true, "team": true, "team=blue": true, "on": true, "on=": true,
		"team=": false, "team=red": false, "tea": false, "blue": false, "on=x": false,
	} {
		d := Docker{OnlyLabel: only}
		if got := d.Sees(labels); got != want {
			t.Errorf("only_label %q: %v", only, got)
		}
	}
	for _, bad := range []string{"=x", " ", "a b=c", "a=\x00", strings.Repeat("a", 200), "a=" + strings.Repeat("b", 300)} {
		if _, err := decode("", nil, []string{"EFFISCALE_DOCKER_ONLY_LABEL=" + bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestServiceLabels: what the labels of a service say is kept with its types, and is
// printed as it was written.
func TestServiceLabels(t *testing.T) {
	c := Defaults()
	for label, get := range map[string]func(knowledge.ServicePolicy) any{
		"replicas=0..3":                       func(s knowledge.ServicePolicy) any { return *s.Replicas },
		"replicas.target=cpu=70%":             func(s knowledge.ServicePolicy) any { return s.Target },
		"replicas.target=rps=200":             func(s knowledge.ServicePolicy) any { return s.Target },
		"replicas.target=concurrency=0.5":     func(s knowledge.ServicePolicy) any { return s.Target },
		"replicas.target=latency_p99=1.5s":    func(s knowledge.ServicePolicy) any { return s.Target },
		"port=8080":                           func(s knowledge.ServicePolicy) any { return s.Port },
		"listen=:8088":                        func(s knowledge.ServicePolicy) any { return s.Listen },
		"listen=[::1]:8088":                   func(s knowledge.ServicePolicy) any { return s.Listen },
		"listen=10.0.0.1:80":                  func(s knowledge.ServicePolicy) any { return s.Listen },
		"listen=http://app.local":             func(s knowledge.ServicePolicy) any { return s.Listen },
		"listen=https://app.local:8443/a%20b": func(s knowledge.ServicePolicy) any { return s.Listen },
		"listen=http://[::1]":                 func(s knowledge.ServicePolicy) any { return s.Listen },
		"drain=1m30s":                         func(s knowledge.ServicePolicy) any { return *s.Drain },
		"ready-after=5s":                      func(s knowledge.ServicePolicy) any { return *s.ReadyAfter },
	} {
		p := c.PolicyFor(labelled("enable=true", label))
		if len(p.Problems) > 0 {
			t.Errorf("%s: %q", label, p.Problems)
			continue
		}
		if got, want := fmt.Sprint(get(p.Service)), label[strings.IndexByte(label, '=')+1:]; got != want {
			t.Errorf("%s is printed as %s", label, got)
		}
	}
}

// TestRow106DemoHasItsOwnDaemon: the containers of a demonstration are of the daemon that
// names their label alone.
func TestRow106DemoHasItsOwnDaemon(t *testing.T) {
	labels := map[string]string{"effiscale.enable": "true", "effiscale.demo": "7-1", "team": "blue"}
	for only, want := range map[string]bool{
		"": false, "team=blue": false, "effiscale.demo=7-1": true, "effiscale.demo": true, "effiscale.demo=8-1": false,
	} {
		d := Docker{OnlyLabel: only}
		if got := d.Sees(labels); got != want {
			t.Errorf("only_label %q: %v", only, got)
		}
	}
}

// Row 126: tables for services of Compose, by project and service, joined as before, and for
// what runs once beside them.
func TestPolicyOfComposeServices(t *testing.T) {
	c := Defaults()
	c.Services = map[knowledge.ServiceKey]Patch{}
	for key, class := range map[knowledge.ServiceKey]string{"app_dev/db": "cache", "app_dev_db": "batch", "web": "latency"} {
		c.Services[key] = Patch{Setting{Key: "class", Value: class}}
	}
	for key, want := range map[knowledge.ServiceKey]knowledge.Class{
		"app_dev/db": knowledge.ClassCache, "app/dev_db": knowledge.ClassBatch, "app_dev/db.oneoff": knowledge.ClassCache,
		"web.oneoff": knowledge.ClassLatency, "shop/web": knowledge.ClassServing,
	} {
		if p := c.PolicyFor(knowledge.Container{Name: "x", Service: key}); p.Class != want {
			t.Errorf("%s: %s, want %s", key, p.Class, want)
		}
	}
}
