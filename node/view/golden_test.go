package view

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/service"
	"github.com/effiscale/effiscale/node/api"
)

// go test ./node/view -update writes the golden files anew.
var update = flag.Bool("update", false, "write the golden files")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	core = knowledge.OneCPU
	mib  = knowledge.MiB
	gib  = knowledge.GiB
)

// golden compares v as JSON with testdata/name.json.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs (go test ./node/view -update writes it anew):\n%s", file, got.String())
	}
}

// steady is a managed container with limits to which nothing is to be done.
func steady(name string) *mape.ContainerStatus {
	w := &knowledge.Window{
		At: now.Add(-200 * time.Millisecond), Since: now.Add(-3 * time.Hour), Samples: 100, Interval: time.Second,
		Have:  knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat | knowledge.HasLimits,
		Usage: core / 2, UsageMax: core * 6 / 10, UsageMean: core / 2, Usage60: core * 7 / 10, Quota: core,
		Period: 100 * time.Millisecond,
		WindowMemory: knowledge.WindowMemory{MemoryUsage: 120 * mib, WorkingSet: 100 * mib, Anon: 80 * mib, Hard: 85 * mib,
			AnonPeak: 90 * mib, MemoryLimit: 256 * mib},
		Traffic: knowledge.Traffic{Pids: 12, RxBytes: 1000, TxBytes: 2000, ReadBytes: 4096, WriteBytes: 8192},
	}
	u := &mape.ContainerStatus{Measured: true}
	u.Container = execute.Container{
		Container: knowledge.Container{
			ID: knowledge.ContainerID(strings.Repeat("ab",
				32)), Name: name, Service: knowledge.ServiceKey(strings.TrimRight(name, "-0123456789")),
			State: knowledge.StateRunning, Inspected: true,
		},
		Input: execute.Input{Policy: knowledge.Policy{
			Managed: true, Mode: knowledge.ModeAuto, CPU: knowledge.Range[knowledge.NanoCPU]{Min: core / 10,
				Max: 2 * core}, CPUSource: "label",
			Memory: knowledge.Range[knowledge.Bytes]{Min: 64 * mib, Max: gib}, MemorySource: "default", ThrottleTarget: 0.06,
			MemoryPercentile: 0.98, ShrinkAfter: 10 * time.Minute,
		},
			Window: w,
			Finding: knowledge.Finding{Quality: knowledge.QualityGood, Demand: core / 2,
				Reason: knowledge.Because(knowledge.RuleSteady, 0.5, 1)},
			Envelope: knowledge.Envelope{
				CPU: knowledge.Range[knowledge.NanoCPU]{Min: core / 4, Max: 2 * core}, ThrottleTarget: 0.06, LearnedCPU: core / 4,
				Memory: 200 * mib, MemoryFloor: 128 * mib, MemoryCeiling: gib, Learned: true, At: now.Add(-5 * time.Second),
				Reason: knowledge.Because(knowledge.RuleProfile, 0.95, 0.25,
					3600), Forecast: knowledge.Because(knowledge.RuleNoForecast),
			}},
		Marks: execute.Marks{Since: now.Add(-2 * time.Hour), EngineKnown: true,
			Engine: knowledge.Limits{CPU: core, Memory: 256 * mib}},
		OriginalKept: true, Original: execute.Original{Limits: knowledge.Limits{CPU: 2 * core, Memory: 512 * mib}},
	}
	for r := range u.Planned {
		u.Planned[r].Decision = knowledge.Decision{Verb: knowledge.Hold, Reason: knowledge.Because(knowledge.RuleSteady, 0.5,
			1)}
		u.Planned[r].Since = now.Add(-time.Minute)
		u.IfManaged[r] = u.Planned[r].Decision
	}
	return u
}

// grows makes the reflex want 1.5 cores.
func grows(u *mape.ContainerStatus) *mape.Planned {
	w := &u.Planned[knowledge.ResourceCPU]
	w.Decision = knowledge.Decision{
		Verb: knowledge.Grow, From: int64(core), To: int64(core * 3 / 2), Reason: knowledge.Because(knowledge.RuleThrottled,
			0.4, 0.06, 1),
	}
	w.Admission = execute.Admission{Allowed: w.Decision.To, Acted: true}
	return w
}

// cases are containers in the states that status and explain tell apart.
func cases() map[string]func(u *mape.ContainerStatus) {
	outlook := service.Outlook{Value: 0.8, Peak: 0.9, Member: "seasonal", Period: time.Hour}
	outlook.Horizon, outlook.Upper, outlook.Level, outlook.Coverage = 5*time.Minute, core, 0.99, 0.985
	outlook.Gain, outlook.ScoredFor, outlook.Trusted = 0.3, 2*time.Hour, true
	return map[string]func(u *mape.ContainerStatus){
		"steady": func(*mape.ContainerStatus) {},
		"labelled": func(u *mape.ContainerStatus) {
			drain := 30 * time.Second
			u.Policy.Service = knowledge.ServicePolicy{
				Replicas: &knowledge.ReplicaRange{Min: 1, Max: 5}, Target: knowledge.ReplicaTarget{Signal: knowledge.TargetCPU,
					Value: 0.7},
				Port: 8080, Listen: knowledge.Listen{Port: 8088}, Drain: &drain,
			}
		},
		"stopped": func(u *mape.ContainerStatus) { u.Container.State = knowledge.StateExited },
		"off":     func(u *mape.ContainerStatus) { u.Policy.Mode = knowledge.ModeOff },
		"unmeasured": func(u *mape.ContainerStatus) {
			u.Measured, u.Window = false, &knowledge.Window{}
			u.AttachError = "cannot attach to container abababababab: no cgroup found"
		},
		"bad-label": func(u *mape.ContainerStatus) {
			u.Policy.Managed, u.Policy.Mode = false, knowledge.ModeObserve
			u.Policy.Problems = []string{`effiscale.cpu="many": a number of cores is allowed`}
		},
		"observing": func(u *mape.ContainerStatus) {
			u.Policy.Managed, u.Policy.Mode, u.OriginalKept = false, knowledge.ModeObserve, false
			u.Window.Quota, u.Window.MemoryLimit = 0, 0
			u.IfManaged[knowledge.ResourceMemory] = knowledge.Decision{
				Verb: knowledge.Shrink, To: int64(192 * mib), Reason: knowledge.Because(knowledge.RuleMemoryProfile,
					float64(150*mib), 1.3),
			}
		},
		"growing": func(u *mape.ContainerStatus) { grows(u); u.LastChange = history()[0] },
		"growing-unlimited": func(u *mape.ContainerStatus) {
			w := grows(u)
			w.Decision.To, w.Admission.Allowed = 0, 0
		},
		"shrinking-memory": func(u *mape.ContainerStatus) {
			w := &u.Planned[knowledge.ResourceMemory]
			w.Decision = knowledge.Decision{
				Verb: knowledge.Shrink, From: int64(256 * mib), To: int64(200 * mib),
				Reason: knowledge.Because(knowledge.RuleMemoryProfile, float64(150*mib), 1.3),
			}
			w.Admission = execute.Admission{Allowed: w.Decision.To, Acted: true}
		},
		"starting": func(u *mape.ContainerStatus) { u.Finding.Starting = true },
		"paused":   func(u *mape.ContainerStatus) { u.Paused = knowledge.Pause{On: true, Until: now.Add(90 * time.Second)} },
		"paused-down": func(u *mape.ContainerStatus) {
			u.Paused = knowledge.Pause{On: true, OnlyDown: true}
			u.Planned[0].Decision = knowledge.Decision{Verb: knowledge.Shrink, From: int64(core), To: int64(core / 2),
				Reason: knowledge.Because(knowledge.RuleSettled, 0.4, 1.2, 0.1)}
			u.Planned[0].Admission = execute.Admission{Allowed: int64(core), Guard: "pause",
				Reason: knowledge.Because(knowledge.RulePaused)}
		},
		"limited-by-label": func(u *mape.ContainerStatus) {
			u.Planned[0].Decision.Reason = knowledge.Because(knowledge.RuleAtMax, 2.5, 2)
			u.Window.Quota = 2 * core
		},
		"limited-by-host": func(u *mape.ContainerStatus) {
			w := grows(u)
			w.Admission = execute.Admission{Allowed: int64(core), Guard: "host-cpu",
				Reason: knowledge.Because(knowledge.RuleHostCPU, 1.5, 4)}
		},
		"waiting": func(u *mape.ContainerStatus) {
			w := grows(u)
			w.Admission = execute.Admission{Allowed: int64(core), Guard: "in-flight",
				Reason: knowledge.Because(knowledge.RuleInFlight)}
		},
		"yielding": func(u *mape.ContainerStatus) {
			u.Marks.ExternalUntil = now.Add(5 * time.Minute)
			w := grows(u)
			w.Admission = execute.Admission{Allowed: int64(core), Guard: "external",
				Reason: knowledge.Because(knowledge.RuleExternal, 300)}
		},
		"pinned": func(u *mape.ContainerStatus) { u.Marks.Pinned = true },
		"stale": func(u *mape.ContainerStatus) {
			u.Window.At = now.Add(-time.Minute)
			u.Finding.Quality, u.Finding.Reason = knowledge.QualityStale, knowledge.Because(knowledge.RuleStale, 60, 3)
			u.LastError, u.LastErrorAt = "the kernel refused the quota", now.Add(-time.Minute)
		},
		"kernel-refused": func(u *mape.ContainerStatus) { u.KernelRefused = "permission denied" },
		"leak": func(u *mape.ContainerStatus) {
			u.MemoryPattern = analyse.Pattern{Kind: analyse.PatternLeak, Confidence: 0.9,
				Evidence: knowledge.Because(knowledge.RulePatternLeak, 1e4, float64(100*mib), 7200, 0.95)}
			u.Finding.TimeToFull = 90 * time.Second
		},
		"runtime": func(u *mape.ContainerStatus) {
			u.Runtime, u.StartLimit = analyse.RuntimeOf([]string{"sh", "java"}), 64*mib
		},
		"runtime-ended": func(u *mape.ContainerStatus) {
			u.Runtime, u.State = analyse.RuntimeOf([]string{"node"}), knowledge.StateExited
			u.Window.LastOOM = time.Time{}
		},
		"learned": func(u *mape.ContainerStatus) {
			u.Learned = service.Learned{ObservedFor: 26 * time.Hour, CPUMean: 0.4, CPUUsual: 0.6, CPUMax: 0.9, Censored: 0.01,
				MemoryNeed: 150 * mib, MemoryMax: 180 * mib, Growth: 2e6, Start: 4 * time.Second}
			u.Learned.Cuts[0].Applied, u.Learned.Cuts[0].Reverted = 10, 1
			u.Learned.Image.ObservedFor, u.Learned.Image.CPU, u.Learned.Image.CPUMax = 40*time.Hour, core/2, core
			u.Learned.Image.MemoryNeed, u.Learned.Image.MemoryPeak = 160*mib, 190*mib
			u.Outlooks, u.Ahead = []service.Outlook{outlook}, outlook
			u.Envelope.ForecastCPU = core / 2
			u.Pattern = analyse.Pattern{Kind: analyse.PatternPeriodic, Confidence: 0.8, Period: time.Hour,
				Evidence: knowledge.Because(knowledge.RulePatternPeriodic, 3600, 0.9, 7200, 0.1)}
			u.Marks.Raised[1] = execute.RaisedFloor{Value: int64(128 * mib), Until: now.Add(time.Hour), Times: 1}
			u.Window.Have |= knowledge.HasCPUPressure | knowledge.HasMemoryPressure | knowledge.HasIOPressure
			u.Window.CPUPressure.Some10 = 12.5
		},
	}
}

// history are three changes, newest first.
func history() []knowledge.Record {
	cpu := knowledge.Action{
		Seq: 9, Kind: knowledge.ActionResize, ID: "ab", Name: "web-1", Service: "web", At: now.Add(-time.Minute),
		Reason: knowledge.Because(knowledge.RuleSettled, 0.4, 1.2, 0.1),
		Resize: knowledge.Resize{Verb: knowledge.Shrink, From: int64(2 * core), To: int64(core), Count: 3},
	}
	created := knowledge.Action{
		Seq: 8, Kind: knowledge.ActionCreate, ID: "cd", Name: "web-2", Service: "web", At: now.Add(-time.Minute),
		Create: knowledge.Create{Image: "web:1", Template: "ab", Slot: 2},
	}
	memory := knowledge.Action{
		Seq: 7, Kind: knowledge.ActionResize, ID: "ab", Name: "web-1", Service: "web", At: now.Add(-time.Hour),
		Reason: knowledge.Because(knowledge.RuleMemoryTight, float64(120*mib), float64(128*mib)),
		Resize: knowledge.Resize{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, From: int64(128 * mib),
			To: int64(256 * mib)},
	}
	return []knowledge.Record{
		{Action: cpu, Outcome: knowledge.Outcome{Seq: 9, Result: knowledge.ResultApplied, Took: 300 * time.Microsecond}},
		{Action: created, Outcome: knowledge.Outcome{Seq: 8, Result: knowledge.ResultApplied, Took: 200 * time.Millisecond}},
		{Action: memory, Outcome: knowledge.Outcome{
			Seq: 7, Result: knowledge.ResultRefused, Message: "the Engine refused", Took: 40 * time.Millisecond,
		}},
	}
}

// TestGoldenContainer: what is told of one container in each state.
func TestGoldenContainer(t *testing.T) {
	for name, change := range cases() {
		t.Run(name, func(t *testing.T) {
			u := steady("web-1")
			change(u)
			var s api.Status
			addContainer(&s, u, 4)
			verdicts := [2][]execute.GuardResult{{{Guard: "mode", Allowed: true},
				{Guard: "rate", Reason: knowledge.Because(knowledge.RuleRate, 60, 60)}}}
			golden(t, "container-"+name, struct {
				Problems []string
				Explain  api.Explain
				Decision api.ContainerPlan
			}{
				s.Problems,
				Explain(&Explanation{Unit: u, Verdicts: verdicts, Records: history(), Source: "kernel files", Node: "alpha",
					CPUs: 8}, now),
				Decision(u, 8, []string{"alpha", "beta"}, now),
			})
		})
	}
}

// daemon is one in which all is well.
func daemon() *Daemon {
	return &Daemon{
		Version: "1.0", ID: "0a1b", Name: "alpha", Mode: "auto", ConfigFile: "/etc/effiscale/effiscale.toml",
		StartedAt: now.Add(-time.Hour),
		Engine:    Engine{Up: true, Since: now.Add(-time.Hour)}, Machine: knowledge.Host{EngineVersion: "20.10.24",
			APIVersion: "1.41", CgroupDriver: "cgroupfs"},
		Cgroup: "v1", Actuator: "kernel", Source: "kernel files",
	}
}

// TestGoldenStatus: the status of a host in which all is well, of one in which nothing is,
// and of one without containers.
func TestGoldenStatus(t *testing.T) {
	sum := mape.Summary{
		Host: execute.Host{CPUs: 4, Memory: 8 * gib}, HostCPU: core, HostUsed: 2 * gib, Pool: 3 * core, Granted: core,
		Ready: true, Repaired: 1,
	}
	all := func() []mape.ContainerStatus {
		db := steady("db-1")
		db.Window.Quota = 0
		return []mape.ContainerStatus{*steady("web-2"), *steady("web-1"), *db}
	}
	golden(t, "status-well", Status(daemon(), all(), &sum, history(), now))
	golden(t, "status-empty", Status(daemon(), nil, &sum, nil, now))

	d := daemon()
	d.Engine = Engine{Since: now.Add(-12 * time.Second), Error: "nobody listens at /var/run/docker.sock"}
	d.Cgroup, d.Source, d.Crashes = "", "engine stats: no cgroup found", 3
	d.Store, d.StoreOpened, d.Disagreements = "disk full", "set aside: checksum", []string{"web: effiscale.cpu differs"}
	units := all()
	units[0].Policy.Problems, units[0].Marks.Pinned = []string{"effiscale.cpu: many"}, true
	golden(t, "status-degraded", Status(d, units, &sum, nil, now))

	d = daemon()
	sum.ListError = "no answer within 10s"
	golden(t, "status-no-list", Status(d, nil, &sum, nil, now))
}

// TestGoldenPlan: the plan of a host, of a service, of a container by its id, and of a
// name that nothing has.
func TestGoldenPlan(t *testing.T) {
	web, db, off := steady("web-1"), steady("db-1"), steady("job-1")
	grows(web)
	db.Policy.Managed, db.Policy.Mode = false, knowledge.ModeObserve
	db.IfManaged[0] = knowledge.Decision{Verb: knowledge.Shrink, To: int64(core / 2),
		Reason: knowledge.Because(knowledge.RuleSettled, 0.4, 1.2, 0.1)}
	db.Container.ID = knowledge.ContainerID(strings.Repeat("cd", 32))
	off.Container.State = knowledge.StateExited
	for name, of := range map[string]string{"all": "", "service": "web", "id": strings.Repeat("cd", 6),
		"unknown": "nothing"} {
		p, known := Plan([]mape.ContainerStatus{*web, *db, *off}, of, now)
		if known == (name == "unknown") {
			t.Errorf("%s: known %t", name, known)
		}
		golden(t, "plan-"+name, p)
	}
}

// TestGoldenWire: the readings, forecasts and records of the wire contract.
func TestGoldenWire(t *testing.T) {
	u := steady("web-1")
	point := knowledge.Point{At: now.Add(-time.Minute).UnixNano(), CPU: 0.25, CPULimit: 1, Throttled: 0.1,
		WorkingSet: 64 * mib, MemoryLimit: 128 * mib}
	free := point
	free.CPULimit, free.MemoryLimit = 0, 0
	points := []knowledge.Point{point, free}
	bare := steady("web-1")
	bare.Window.Quota, bare.Window.MemoryLimit, bare.Window.Have = 0, 0, u.Window.Have|knowledge.HasCPUPressure
	bare.Window.CPUPressure.Some10 = 50
	golden(t, "wire-metrics", struct {
		Limited, Unlimited api.Metric
		Past               []api.Metric
		Unmeasured         []string
	}{
		Metric("web", u, 8*gib), Metric("web", bare, 8*gib), Metrics("web", u, points, gib),
		[]string{Unmeasured(u), Unmeasured(&mape.ContainerStatus{AttachError: "no cgroup found"})},
	})
	golden(t, "wire-records", WireRecords("web", u.Window, history()))
	for i := range 25 {
		point.At = now.Add(time.Duration(i-25) * 10 * time.Second).UnixNano()
		points = append(points, point)
	}
	ahead := steady("web-1")
	o := service.Outlook{Value: 1}
	o.Horizon = 30 * time.Second
	ahead.Outlooks = []service.Outlook{o}
	golden(t, "wire-predictions", map[string]api.Predictions{
		"points":     Predictions(u, points, knowledge.Host{CPUs: 8, Memory: gib}, time.Minute, now),
		"forecaster": Predictions(ahead, nil, knowledge.Host{CPUs: 8, Memory: gib}, time.Minute, now),
		"nothing":    Predictions(u, nil, knowledge.Host{CPUs: 8, Memory: gib}, time.Minute, now),
	})
}

// TestGoldenHosts: the line of a host, and services of two hosts added up.
func TestGoldenHosts(t *testing.T) {
	sum := mape.Summary{Host: execute.Host{CPUs: 4, Memory: 8 * gib}, Pool: 3 * core, Granted: core}
	s := Status(daemon(), []mape.ContainerStatus{*steady("web-1")}, &sum, history(), now)
	paused := steady("web-2")
	paused.Paused = knowledge.Pause{On: true, Until: now.Add(time.Hour)}
	beta := Status(daemon(), []mape.ContainerStatus{*paused, *steady("db-1")}, &sum, nil, now)
	m := NewMerger("alpha", s.Services, func(knowledge.ServiceKey) (string, []string) { return "beta", []string{"alpha"} })
	m.Add("beta", beta.Services)
	var c api.ClusterView
	AddSummary(&c, s.Summary)
	AddSummary(&c, beta.Summary)
	golden(t, "hosts", struct {
		Host     api.HostView
		Services []api.ServiceView
		Cluster  api.ClusterView
	}{Host("0a1b", &s), m.Services(), c})
}
