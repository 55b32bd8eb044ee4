package ctl

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// testNow is the instant of every golden file.
var testNow = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// fakeClient is a daemon that has the views below and one container of each kind.
type fakeClient struct {
	err      error // what every call answers, if not nil
	degraded bool
	quiet    bool // nothing to plan, nothing changed
	cluster  clusterKind
	joined   []string
	keys     []api.KeyRequest
	scaled   []api.ScaleRequest
	paused   []api.PauseRequest
	restored []string
	planned  []api.PlanRequest
}

func ptr[T any](v T) *T { return &v }

func ago(d time.Duration) time.Time { return testNow.Add(-d) }

func testChange() api.Change {
	return api.Change{Kind: "resize", At: ago(12 * time.Second), Resource: "cpu", Verb: "grow", Actor: "reflex",
		From: 500e6, To: 800e6, Result: "applied",
		Why: "heavily throttled: uses 0.50 cores and needs about 0.30 more, quota 0.50", Seq: 17,
		Container: "shop-web-1", ContainerID: testID, TookMS: 2.4}
}

const testID = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90"

func testContainers() []api.ContainerView {
	managed := api.ContainerView{ID: testID, Name: "shop-web-1", Service: "shop_web", Mode: "auto", Managed: true,
		Class: "serving", Run: "running",
		Health: "healthy", CPUUsed: 0.61, CPULimit: ptr(0.8), CPUWanted: ptr(0.9), Throttled: 0.03, MemoryUsed: 210 << 20,
		MemoryLimit:  ptr(int64(384 << 20)),
		MemoryWanted: ptr(int64(384 << 20)), State: "growing", Why: testChange().Why, LastChange: ptr(testChange()),
		SampledAt: ago(time.Second)}
	batch := managed
	batch.ID, batch.Name, batch.Service, batch.State = "b"+testID[1:], "batch", "batch", "limited"
	batch.CPUUsed, batch.CPULimit, batch.Throttled = 1.9, ptr(2.0), 0.21
	batch.MemoryUsed, batch.MemoryLimit = 1930<<20, ptr(int64(2<<30))
	batch.Why = "requested 2.71 cores, the policy's maximum is 2.00 cores"
	batch.LastChange = &api.Change{Kind: "resize", At: ago(6 * time.Minute), Resource: "memory", From: 1 << 30,
		To: 2 << 30, Result: "reverted", Container: "batch"}
	redis := api.ContainerView{ID: "c" + testID[1:], Name: "redis", Service: "redis", Mode: "observe", Class: "cache",
		Run: "running", Health: "none",
		CPUUsed: 0.05, MemoryUsed: 88 << 20, CPUWanted: ptr(0.1), MemoryWanted: ptr(int64(112 << 20)), State: "observing",
		Why: "did not opt in (effiscale.enable=true)", SampledAt: ago(2 * time.Second)}
	stopped := api.ContainerView{ID: "d" + testID[1:], Name: "old-job", Service: "old-job", Mode: "observe", Run: "exited",
		State: "off"}
	hostile := redis
	hostile.ID, hostile.Name, hostile.Managed = "e"+testID[1:], "evil\x1b[2J\x1b]0;owned\x07", true
	hostile.Problems = []string{"effiscale.cpu=\"\u202e1..\u009b2\xff\n! forged line\": allowed are ranges such as 0.25..2"}
	wide := stopped
	wide.ID, wide.Name = "f"+testID[1:], "日本語の長い名前のコンテナですからとても長い"
	return []api.ContainerView{managed, batch, redis, stopped, hostile, wide}
}

func (f *fakeClient) Status(context.Context) (api.Status, error) {
	st := api.Status{Schema: api.Schema, Version: "0.1.0", Degraded: f.degraded,
		Node: api.NodeView{ID: "01J9ZK", Name: "alpha", Mode: "auto", StartedAt: ago(76 * time.Hour), Ready: true, CPUs: 8,
			CPUUsed:     5.12,
			MemoryBytes: 32 << 30, MemoryUsed: 21 << 30, PoolCPU: 7.6, PoolCPUGranted: 2.9, Engine: "connected",
			EngineVersion: "20.10.24",
			APIVersion:    "1.41", Cgroup: "v1 cgroupfs", Actuator: "kernel", Source: "kernel files", Store: "ok", Members: 1},
		Services: []api.ServiceView{}, Containers: []api.ContainerView{}, Problems: []string{},
		Summary: api.Summary{Actions: 14, Failed: 0, Reverted: 1, DriftRepaired: 1, SavedCPU: 4.2, SavedMemory: 6 << 30},
	}
	f.cluster.status(&st)
	if f.quiet {
		st.Summary = api.Summary{}
		return st, f.err
	}
	st.Containers = testContainers()
	st.Services = []api.ServiceView{
		{Name: "shop_web", Owner: "alpha", Containers: []string{"shop-web-1"}, CPUUsed: 0.61, CPULimit: ptr(0.8),
			MemoryUsed: 210 << 20, MemoryLimit: ptr(int64(384 << 20))},
		{Name: "redis", Owner: "alpha", Containers: []string{"redis"}, CPUUsed: 0.05, MemoryUsed: 88 << 20,
			Paused: "until 16:00"},
	}
	f.cluster.services(&st)
	if f.degraded {
		st.Node.Engine = "unreachable for 12s: connection refused"
		st.Problems = []string{
			"The Docker Engine has not answered for 12s: `systemctl status docker`; " +
				"limits do not change until it does, and only kernel files are read.",
			"batch wants 2.71 cores, its maximum is 2 (effiscale.cpu)"}
	}
	return st, f.err
}

// Call answers the operations.
func (f *fakeClient) Call(ctx context.Context, row api.Row, request, answer any) (err error) {
	switch into := answer.(type) {
	case *api.Status:
		*into, err = f.Status(ctx)
	case *api.Explain:
		*into, err = f.Explain(ctx, request.(api.ExplainRequest).Name)
	case *api.History:
		if all, ok := request.(api.AllRecordsRequest); ok {
			*into, err = f.Records(ctx, "shop-web-1", all.Limit)
			into.Name = ""
			break
		}
		q := request.(api.RecordsRequest)
		*into, err = f.Records(ctx, q.Name, q.Limit)
	case *api.Plan:
		*into, err = f.Plan(ctx, request.(api.PlanRequest))
	case *api.Trace:
		*into, err = f.Trace(ctx, request.(api.TraceRequest))
	case *api.ScaleResult:
		*into, err = f.Scale(ctx, request.(api.ScaleRequest))
	case *api.PauseResult:
		*into, err = f.Pause(ctx, request.(api.PauseRequest))
	case *api.RestoreResult:
		*into, err = f.Restore(ctx, request.(api.RestoreRequest).Container)
	case *api.Members:
		*into, err = f.Members(ctx)
	case *api.JoinResult:
		*into, err = f.Join(ctx, request.(api.JoinRequest).Addresses)
	case *api.Keys:
		if q, ok := request.(api.KeyRequest); ok {
			*into, err = f.KeyChange(ctx, q)
			break
		}
		*into, err = f.Keys(ctx)
	case *api.Done:
		if row.Name == api.OpLeave.Name {
			return f.Leave(ctx, request.(api.LeaveRequest).Name)
		}
		return f.Reload(ctx)
	default:
		err = fmt.Errorf("the fake does not know %s", row.Name)
	}
	return err
}

func (f *fakeClient) find(name string) (api.ContainerView, error) {
	if f.err != nil {
		return api.ContainerView{}, f.err
	}
	for _, c := range testContainers() {
		if c.Name == name {
			return c, nil
		}
	}
	if name == testID[1:13] {
		return api.ContainerView{}, api.Errorf(api.KindBadRequest,
			"%q is ambiguous: shop-web-1 and batch have it; give more digits", name)
	}
	return api.ContainerView{}, api.Errorf(api.KindNotFound, "no container is called %q; `effiscale status` lists them",
		name)
}

func (f *fakeClient) Explain(_ context.Context, name string) (api.Explain, error) {
	c, err := f.find(name)
	if err != nil {
		return api.Explain{}, err
	}
	return f.cluster.explain(api.Explain{Schema: api.Schema, Container: c, Node: "alpha", Owner: "alpha",
		ManagedSince: ago(74 * time.Hour),
		Signals: []api.Signal{{Name: "cpu usage", Value: 0.61, Unit: "cores"},
			{Name: "throttle ratio", Value: 0.031, Unit: "ratio"},
			{Name: "working set", Value: 210 << 20, Unit: "bytes"}, {Name: "growth", Value: 1 << 16, Unit: "bytes/s"},
			{Name: "memory pressure", Value: 0.02, Unit: "percent"}, {Name: "oom kills", Value: 0, Unit: "count"},
			{Name: "sample age", Value: 1, Unit: "seconds"}},
		Thresholds: []api.Threshold{{Name: "throttle target", Value: 0.06, Unit: "ratio", Source: "class"},
			{Name: "cpu maximum", Value: 2, Unit: "cores", Source: "label"},
			{Name: "cpu use over limit, where it starts to hurt", Value: 0.82, Unit: "ratio", Source: "learned",
				Why: "at 82% of its limit it was throttled 2% of the time"}},
		Wishes: []api.Wish{
			{Resource: "cpu", Current: 800e6, Wanted: 2710e6, Allowed: 2000e6, Verb: "grow", Rule: "boost", Why: c.Why,
				Since: ago(6 * time.Minute)},
			{Resource: "memory", Current: 384 << 20, Wanted: 384 << 20, Allowed: 384 << 20, Verb: "hold", Rule: "steady",
				Why: "uses 210 MiB of 384 MiB: no change needed", Since: ago(41 * time.Minute)}},
		Verdicts: []api.Verdict{{Guard: "policy maximum", Resource: "cpu", Allowed: false,
			Message: "requested 2.71 cores, the policy's maximum is 2.00 cores"},
			{Guard: "host memory", Resource: "memory", Allowed: true, Message: "the host's memory budget has 4.0 GiB left"},
			{Guard: "rate", Resource: "cpu", Allowed: true}, {Guard: "rate", Resource: "memory", Allowed: true},
			{Guard: "step", Resource: "cpu", Allowed: true}, {Guard: "step", Resource: "memory", Allowed: false,
				Message: "requested 2 GiB; one step allows at most 1 GiB"}},
		Rejected: []string{"cpu 2.71 cores: above the policy's maximum of 2.00 (effiscale.cpu=0.25..2); " +
			"raise it to change the outcome of this decision"},
		Patterns: []api.Pattern{{Kind: "periodic", Confidence: 0.83, Period: 86400,
			Why: "repeats every 24h, explains 83% of the variation in 42h"}},
		Forecasts: []api.Forecast{
			{Horizon: 10, Expected: 0.7, Upper: 0.9, Level: 0.95, Coverage: 0.94, Gain: 0.21, ScoredFor: 3 * 3600,
				Member: "holt", Trusted: true},
			{Horizon: 300, Expected: 0.8, Upper: 1.1, Level: 0.95, Coverage: 0.96, Gain: -0.02, ScoredFor: 3 * 3600,
				Member: "seasonal", Period: 86400},
			{Horizon: 3600, Expected: 0.8, Upper: 1.4, Level: 0.95, Member: "last"}},
		Envelope: api.EnvelopeView{Forecast: "forecast error was 2% above \"same as now\" in 3h: not used",
			CPUFloor: 0.25, CPUCeiling: 2, ThrottleTarget: 0.06, MemoryWanted: 384 << 20, MemoryFloor: 128 << 20,
			MemoryCeiling: 1 << 30, Learned: true, Why: "history: p95 of its use is 0.58 cores", At: ago(9 * time.Second)},
		ServiceLabels: []api.Label{{Name: "effiscale.replicas", Value: "1..5"}, {Name: "effiscale.listen", Value: ":8088"}},
		Conditions: []api.Condition{{Type: "Managed", Status: true, Since: ago(74 * time.Hour), Reason: "LabelEnabled",
			Message: "effiscale.enable=true"},
			{Type: "HostHasRoom", Status: false, Since: ago(4 * time.Minute), Reason: "MemoryReserve",
				Message: "alpha 86% used"}},
		History: []api.Change{testChange()},
		LimitsInForce: api.LimitsInForce{OriginalKept: true, OriginalCPU: ptr(1.0), OriginalMemory: ptr(int64(2 << 30)),
			EngineCPU: ptr(0.5), KernelCPU: ptr(0.8), EngineMemory: ptr(int64(384 << 20)),
			KernelMemory: ptr(int64(384 << 20))}}), nil
}

func (f *fakeClient) Records(_ context.Context, name string, limit int) (api.History, error) {
	if _, err := f.find(name); err != nil {
		return api.History{}, err
	}
	h := api.History{Schema: api.Schema, Name: name, Changes: []api.Change{}}
	if f.quiet {
		return h, nil
	}
	second := testChange()
	second.At, second.Resource, second.From, second.To, second.Result = ago(50*time.Hour), "memory", 256<<20, 384<<20,
		"failed"
	second.Message, second.Actor, second.Why = "the Engine said: unable to set memory limit", "deliberation",
		"the working set of 240 MiB is above 90% of the limit of 256 MiB"
	folded := testChange()
	folded.At, folded.Count, folded.TookMS = ago(3*time.Hour), 9, 0
	h.Changes = []api.Change{testChange(), folded, second}[:min(limit, 3)]
	for i := range h.Changes {
		h.Changes[i].Seq = uint64(100 - i)
	}
	if f.cluster == minority {
		h.Changes[0].Host, h.Changes[1].Host = "alpha", "beta"
		h.Notes = []string{"what was done on gamma (down) is missing: it cannot be asked"}
	}
	return h, nil
}

func (f *fakeClient) Plan(_ context.Context, r api.PlanRequest) (api.Plan, error) {
	f.planned = append(f.planned, r)
	p := api.Plan{Schema: api.Schema, At: testNow, Items: []api.PlanItem{}, Hosts: []string{"alpha"}}
	if f.quiet {
		return p, f.err
	}
	p.Changes = 1
	p.Items = []api.PlanItem{
		{Container: "shop-web-1", Service: "shop_web", Mark: "~", Resource: "cpu", From: 800e6, To: 640e6,
			Why: "peak use of 0.24 cores in the last 5 s"},
		{Container: "redis", Service: "redis", Mark: ".", Resource: "memory", From: 128 << 20, To: 112 << 20,
			Why: "needs 88 MiB by its history, and a margin of 22 MiB"},
		{Container: "batch", Service: "batch", Mark: "=", Resource: "cpu", From: 2e9, To: 2e9,
			Why: "requested 2.71 cores, the policy's maximum is 2.00 cores", Guard: "at-max"},
		{Container: "gpu-infer", Service: "gpu-infer", Mark: "!", Resource: "cpu", From: 0, To: 1e9,
			Why: "gpu: an update could do harm (effiscale.allow accepts it)", Guard: "hazard"},
	}
	if f.cluster != alone {
		p.Hosts = []string{"alpha", "beta"}
		for i := range p.Items {
			p.Items[i].Host = p.Hosts[i%2]
		}
	}
	if f.cluster == minority {
		p.NotReached = []string{"gamma (down)"}
	}
	return p, f.err
}

func (f *fakeClient) Trace(_ context.Context, r api.TraceRequest) (api.Trace, error) {
	if _, err := f.find(r.Name); err != nil {
		return api.Trace{}, err
	}
	t := api.Trace{Schema: api.Schema, Service: "shop_web", Resource: r.Resource, Unit: "cores",
		Start: testNow.Add(-r.Since), Step: 60,
		Values: []float64{0.5, 0.25, 0.25, 1.33333333}, Peaks: []float64{0.75, 0.5, 0.5, 2}}
	if r.Resource == "memory" {
		t.Unit, t.Values, t.Peaks = "bytes", []float64{210 << 20, 211 << 20}, []float64{210 << 20, 211 << 20}
	}
	if t.Policy = "effiscale.class=serving"; f.cluster == unsettled {
		t.Policy, t.Values, t.Peaks = "effiscale.class=database", make([]float64, 60), make([]float64, 60)
		return t, nil
	}
	if f.cluster != alone {
		t.Host, t.Elsewhere = "alpha", []string{"beta", "gamma"}
	}
	if !f.quiet {
		t.Filled, t.Gaps, t.Throttled = 1, 1, 2
	}
	if r.Since >= 14*24*time.Hour { // two days of ten minutes: work by day, and noise
		t.Step, t.Values = 600, nil
		for i := range 288 {
			day := 1 + 0.8*math.Sin(float64(i)/144*2*math.Pi)
			t.Values = append(t.Values, day*(1+0.15*math.Sin(float64(i*i))))
		}
		t.Peaks = t.Values
	}
	return t, nil
}

func (f *fakeClient) Scale(_ context.Context, r api.ScaleRequest) (api.ScaleResult, error) {
	if _, err := f.find(r.Container); err != nil {
		return api.ScaleResult{}, err
	}
	f.scaled = append(f.scaled, r)
	host := ""
	if f.cluster != alone {
		host = "beta"
	}
	if f.quiet {
		return api.ScaleResult{CPUQuota: 80000, CPUPeriod: 100000, Memory: 384 << 20, Host: host}, nil
	}
	c := testChange()
	c.Actor, c.To = "user", int64(r.CPU*1e9)
	if r.DryRun {
		c.Result, c.TookMS = "", 0
	}
	return api.ScaleResult{CPUQuota: 150000, CPUPeriod: 100000, Memory: 384 << 20, Changes: []api.Change{c},
		Notes: []string{"memory stays 384 MiB: 64 MiB is too close to the working set of 210 MiB"}}, nil
}

func (f *fakeClient) Pause(_ context.Context, r api.PauseRequest) (api.PauseResult, error) {
	f.paused = append(f.paused, r)
	_, name := api.SplitHost(r.Service)
	res := api.PauseResult{Status: "done", Service: name, Hosts: []string{"alpha"}, NotReached: []string{}}
	if f.quiet {
		res.NotPaused, res.HoldsEnded = true, []string{"shop-web-1"}
	}
	if f.cluster != alone && !r.All {
		res.Hosts = append(res.Hosts, "beta")
	}
	if f.cluster == minority && !r.All {
		res.NotReached = append(res.NotReached, "gamma\x1b[2J (down)")
	}
	return res, f.err
}

func (f *fakeClient) Restore(_ context.Context, name string) (api.RestoreResult, error) {
	if name != "" {
		if _, err := f.find(name); err != nil {
			return api.RestoreResult{}, err
		}
	}
	f.restored = append(f.restored, name)
	if f.quiet {
		return api.RestoreResult{Schema: api.Schema, Host: "alpha", Nothing: true, Restored: []api.Change{},
			Failed: []string{}}, nil
	}
	c := testChange()
	c.From, c.To, c.Actor = 800e6, 1e9, "restore"
	res := api.RestoreResult{Schema: api.Schema, Host: "alpha", Paused: true, Restored: []api.Change{c},
		Failed: []string{}}
	if name == "" {
		res.Failed = []string{"batch: the Engine said: cannot \x1b[31mset it"}
	}
	return res, nil
}

func (f *fakeClient) Reload(context.Context) error { return f.err }

var errTest = errors.New("it broke")

// testDeps are fakes of the packages that ctl does not import.
func testDeps(f *fakeClient) Deps {
	return Deps{Version: "0.1.0 (commit 4f2a9c1, go1.26, linux/amd64)", Sockets: []string{"/nowhere/effiscale.sock"},
		Connect: func(string) api.Caller { return f },
		Now:     func() time.Time { return testNow },
		Run: func(_ context.Context, o RunOptions) error {
			if o.ConfigFile == "locked.toml" {
				return Coded(ExitLocked, fmt.Errorf("cannot open the state: %w", errTest))
			}
			return nil
		},
		Doctor: func(_ context.Context, o DoctorOptions) []api.Check {
			checks := []api.Check{{Name: "Engine", OK: true, Severity: "error",
				Detail: "20.10.24 answers on unix:///var/run/docker.sock (API 1.41)"},
				{Name: "clock", OK: false, Severity: "warning", Detail: "not synchronised",
					Remedy: "start an NTP client: `timedatectl set-ntp true`"}}
			if o.ConfigFile != "" {
				checks = append(checks, api.Check{Name: "cgroup", Severity: "error",
					Detail: "cannot write cpu.cfs_quota_us: permission denied",
					Remedy: "run as root, or set docker.actuator = \"engine\" in the configuration, " +
						"which is slower but needs the Engine's socket only"})
			}
			return checks
		},
		Validate: func(path string, _ []string) (string, []string, error) {
			switch path {
			case "good.toml":
			case "warned.toml":
				return "[node]\nmode = \"auto\"    # warned.toml:2", []string{"api.tls_cert /c expired on 2026-01-02"}, nil
			default:
				return "", nil, fmt.Errorf("%s:3:1: unknown key \"prot\"\n  3 | prot = 1\n    | ^^^^ did you mean \"port\"?", path)
			}
			return "[node]\nmode = \"auto\"    # good.toml:2", nil, nil
		},
		Demo: func(_ context.Context, o DemoOptions) error {
			_, err := fmt.Fprintf(o.Out, "demo %s %s plain=%t\n", o.Shape, o.Duration, o.Plain)
			return err
		},
		DemoServe: func(context.Context, []string) error { return nil },
	}
}
