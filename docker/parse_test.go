package docker

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/effiscale/effiscale/knowledge"
)

func TestHealthOf(t *testing.T) {
	for status, want := range map[string]knowledge.Health{
		"":                                       knowledge.HealthNone,
		"Up 3 minutes":                           knowledge.HealthNone,
		"Up 3 minutes (healthy)":                 knowledge.HealthHealthy,
		"Up About an hour (unhealthy)":           knowledge.HealthUnhealthy,
		"Up 2 seconds (health: starting)":        knowledge.HealthStarting,
		"Up 2 seconds (Paused)":                  knowledge.HealthNone,
		"Exited (137) 3 seconds ago":             knowledge.HealthNone,
		"Restarting (1) 2 seconds ago":           knowledge.HealthNone,
		"Exited (0) 2 minutes ago (healthy)":     knowledge.HealthNone,
		"Up 3 minutes (healthy":                  knowledge.HealthNone,
		"Up (healthy) and then (more) (healthy)": knowledge.HealthNone,
	} {
		if got := healthOf(status); got != want {
			t.Errorf("%q: %s, want %s", status, got, want)
		}
	}
}

func FuzzHealthOf(f *testing.F) {
	for _, s := range []string{"Up 3 minutes (healthy)", "Up (", "Up )(", "(health: starting)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if h := healthOf(s); h != knowledge.HealthNone && !strings.HasPrefix(s, "Up ") {
			t.Errorf("%q is %s", s, h)
		}
	})
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"unix:///run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:1", "x", "unix://\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		network, address, err := parseHost(s)
		if err == nil && (network == "" || address == "" || s != network+"://"+address) {
			t.Errorf("%q: %q %q", s, network, address)
		}
		if err == nil {
			if _, err := Open(Options{Host: s}); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("Error response from daemon: \x1b[31mx\n")
	f.Add(strings.Repeat("é", 400))
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if len(got) > 512 || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("%q", got)
		}
	})
}

// Row 36 (of the client): limits of the Engine's record are brought into bounds and never
// wrap.
func FuzzLimitsOf(f *testing.F) {
	f.Add(int64(5e8), int64(0), int64(0), int64(64<<20), int64(128<<20), int64(0))
	f.Add(int64(0), int64(-1), int64(0), int64(0), int64(-1), int64(-5))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(1), int64(math.MaxInt64), int64(math.MaxInt64),
		int64(math.MaxInt64))
	f.Add(int64(0), int64(math.MaxInt64), int64(math.MinInt64), int64(math.MinInt64), int64(math.MinInt64),
		int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, nano, quota, period, mem, swap, shares int64) {
		l := limitsOf(&container.Resources{NanoCPUs: nano, CPUQuota: quota, CPUPeriod: period, Memory: mem, MemorySwap: swap,
			CPUShares: shares})
		if l.CPU < 0 || l.CPU > knowledge.MaxCPU || l.Memory < 0 || l.Memory > knowledge.MaxBytes || l.MemorySwap < -1 ||
			l.MemorySwap > knowledge.MaxBytes || l.Shares < 0 {
			t.Errorf("%+v", l)
		}
		if (l.Dialect == 0) != (l.Period == 0) || l.Period < 0 || l.Period > time.Second {
			t.Errorf("%+v", l)
		}
	})
}

func TestLimitsOfALiftedQuotaKeepTheDialect(t *testing.T) {
	if l := limitsOf(&container.Resources{CPUQuota: -1}); l.Dialect != CPUQuota || l.CPU != 0 {
		t.Errorf("%+v", l)
	}
	if l := limitsOf(&container.Resources{NanoCPUs: 1e9, CPUQuota: -1}); l.Dialect != CPUNano ||
		l.CPU != knowledge.OneCPU {
		t.Errorf("%+v", l)
	}
	if l := limitsOf(&container.Resources{CPUPeriod: 50_000}); l.Dialect != CPUQuota || l.CPU != 0 ||
		l.Period != 50*time.Millisecond {
		t.Errorf("%+v", l)
	}
}

// Row 36: invalid statistics never wrap.
func TestSampleOfAbsurdNumbers(t *testing.T) {
	var j container.StatsResponse
	j.CPUStats.CPUUsage.TotalUsage = math.MaxUint64
	j.CPUStats.ThrottlingData.ThrottledTime = math.MaxUint64
	j.MemoryStats.Usage, j.MemoryStats.Limit = math.MaxUint64, math.MaxUint64
	j.MemoryStats.Stats = map[string]uint64{"anon": math.MaxUint64, "inactive_file": 1 << 63}
	j.PidsStats.Current = math.MaxUint64
	s := sampleOf(&j, knowledge.GiB)
	if s.CPUUsage < 0 || s.ThrottledTime < 0 || s.MemoryUsage < 0 || s.MemoryLimit != 0 || s.Anon < 0 ||
		s.InactiveFile < 0 || s.Pids < 0 {
		t.Errorf("%+v", s)
	}
	var nothing container.StatsResponse
	const groups = knowledge.HasMemory | knowledge.HasMemoryStat | knowledge.HasIO | knowledge.HasNetwork
	if s := sampleOf(&nothing, knowledge.GiB); s.Have&groups != 0 {
		t.Errorf("%b", s.Have)
	}
}

func TestEventOf(t *testing.T) {
	id := strings.Repeat("a", 64)
	for action, want := range map[string]knowledge.EventKind{
		"start": knowledge.EventStart, "health_status: healthy": knowledge.EventHealth,
		"health_status": knowledge.EventHealth, "oom": knowledge.EventOOM,
	} {
		m := events.Message{Type: "container", Action: events.Action(action), Actor: events.Actor{ID: id}, TimeNano: 5}
		if e, ok := eventOf(&m); !ok || e.Kind != want || string(e.ID) != id {
			t.Errorf("%q: %+v %v", action, e, ok)
		}
	}
	for _, m := range []events.Message{
		{Type: "image", Action: "create", Actor: events.Actor{ID: id}},
		{Type: "container", Action: "exec_start: sh", Actor: events.Actor{ID: id}},
		{Type: "container", Action: "start", Actor: events.Actor{ID: "short"}},
		{},
	} {
		if e, ok := eventOf(&m); ok {
			t.Errorf("%+v was taken for %+v", m, e)
		}
	}
}

func TestIsVersion(t *testing.T) {
	for s, want := range map[string]bool{"1.41": true, "2.0": true, "": false, "1": false, "1.": false, ".1": false,
		"1.x": false, "1.4.1": false, "1.99999": false, "-1.2": false} {
		if isVersion(s) != want {
			t.Errorf("%q", s)
		}
	}
}

func TestServiceOf(t *testing.T) {
	long := strings.Repeat("x", 200)
	compose := func(project, service string) map[string]string {
		return map[string]string{labelComposeProject: project, labelComposeService: service}
	}
	oneoff := func(labels map[string]string) map[string]string {
		labels[labelComposeOneoff] = "True"
		return labels
	}
	for _, c := range []struct {
		name, name2 string
		labels      map[string]string
		want        knowledge.ServiceKey
	}{
		{"the container's name", "web", nil, "web"},
		{"its own label", "web", map[string]string{"effiscale.service": " shop "}, "shop"},
		{"compose", "shop-web-1", compose("shop", "web"), "shop/web"},
		{"compose, names that join alike (row 126)", "a", compose("app_dev", "db"), "app_dev/db"},
		{"compose, the other one (row 126)", "b", compose("app", "dev_db"), "app/dev_db"},
		{"compose run (row 127)", "shop-web-run-1", oneoff(compose("shop", "web")), "shop/web.oneoff"},
		{"compose run, named by its label (row 127)", "shop-web-run-1",
			oneoff(map[string]string{"effiscale.service": "web"}), "web.oneoff"},
		{"swarm", "web.1.abc", map[string]string{labelSwarmService: "web"}, "web"},
		{"a hostile label (row 57)", "web", map[string]string{"effiscale.service": "a\x1b[31m"}, "web"},
		{"a hostile project (row 57)", "web", compose(long, "s"), "web"},
		{"two long halves", "web", compose(long[:100], long[:100]), "web"},
		{"a hostile service of Swarm (row 57)", "web", map[string]string{labelSwarmService: "a\nb"}, "web"},
		{"a long name", long, nil, knowledge.ServiceKey(long[:128])},
		{"no name", "", nil, "unnamed"},
	} {
		if got := serviceOf(c.name2, c.labels); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
