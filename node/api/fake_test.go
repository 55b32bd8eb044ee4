package api

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// someTime has a zone, to see that answers are in UTC.
var someTime = time.Date(2026, 3, 1, 12, 30, 0, 0, time.FixedZone("X", 2*3600))

const someID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// fakeDaemon knows the container "web" (someID) and writes down what it is asked.
type fakeDaemon struct {
	mu       sync.Mutex
	calls    []string
	scales   []ScaleRequest
	replicas []ReplicaRequest
	pauses   []PauseRequest
	plans    []PlanRequest
	place    string // a HOST/NAME that it knows
	watched  bool
	fail     error
	hang     bool
	metrics  []Metric
	health   string
	extra    int // further containers in the status
	few      bool
	joined   []string
	keys     []KeyRequest
	stats    ClusterStats
}

func (f *fakeDaemon) note(ctx context.Context, call, ref string) error {
	f.mu.Lock()
	f.calls = append(f.calls, strings.TrimSpace(call+" "+ref))
	fail, hang := f.fail, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if fail != nil {
		return fail
	}
	if ref != "" && ref != "web" && ref != f.place && !strings.HasPrefix(someID, ref) {
		return Errorf(KindNotFound, "there is no container %s on this host; effiscale status lists them", ref)
	}
	return nil
}

func (f *fakeDaemon) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func ptr[T any](v T) *T { return &v }

func (f *fakeDaemon) Status(context.Context, None) (Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return Status{}, f.fail
	}
	s := Status{
		Schema: Schema, Version: "test",
		Node: NodeView{ID: "n1", Name: "alpha", Mode: "auto", StartedAt: someTime, Ready: true, CPUs: 8, CPUUsed: 2.5,
			MemoryBytes: 32 << 30, MemoryUsed: 8 << 30, PoolCPU: 7, PoolCPUGranted: 3, Members: 1},
		Summary:      Summary{SavedCPU: 1.5, SavedMemory: 1 << 30},
		ProblemKinds: map[string]int{ProblemLimited: 2, "bad\xff": 1},
		Services: []ServiceView{
			{Name: "shop_web", Owner: "alpha", Containers: []string{"web"},
				Forecast: &Forecast{Horizon: 300, Expected: 0.7, Upper: 0.9, Level: 0.95, Coverage: 0.94, Gain: 0.25,
					ScoredFor: 7200, Member: "holt", Trusted: true}},
			{Name: "young", Owner: "alpha", Forecast: &Forecast{Horizon: 300, Expected: 0.1, Upper: 0.2, Level: 0.8}},
		},
		Containers: []ContainerView{
			{ID: someID, Name: "web", Managed: true, CPUUsed: 0.6, CPULimit: ptr(0.8), CPUWanted: ptr(0.9), Throttled: 0.03,
				MemoryUsed: 210 << 20, MemoryLimit: ptr(int64(384 << 20)), SampledAt: someTime,
				Service: "shop_web", Class: "serving", Mode: "auto", State: "limited", Detail: ContainerDetail{
					Image: "shop/web:1", Restarts: 2, OOMKills: 3, Usage: 300 << 20, Cache: 90 << 20, Hard: 200 << 20,
					HasMemory: true, HasDetails: true, CPUFloor: 0.1, CPUCeiling: 2, MemFloor: 64 << 20, MemCeiling: 1 << 30,
					CPUWithheld: 0.25, MemoryWithheld: 1 << 20, CPUPressure: ptr(0.02), MemPressure: ptr(0.0)}},
			{ID: "ffff", Name: "unlimited", CPUUsed: 0.1, MemoryUsed: 5 << 20, SampledAt: someTime},
			{ID: "eeee", Name: "unmeasured"},
			{ID: "cccc", Name: "far", Host: "beta", CPUUsed: 1, SampledAt: someTime}, // on beta's page
			// a second of the same name must not spoil the page
			{ID: "dddd", Name: "web"},
		},
	}
	for i := range f.extra {
		s.Containers = append(s.Containers, ContainerView{Name: "c" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)})
	}
	return s, nil
}

func (f *fakeDaemon) Explain(ctx context.Context, q ExplainRequest) (Explain, error) {
	return Explain{Schema: Schema, Container: ContainerView{Name: q.Name}}, f.note(ctx, "explain", q.Name)
}

func (f *fakeDaemon) Records(ctx context.Context, q RecordsRequest) (History, error) {
	return History{Schema: Schema, Name: q.Name, Changes: []Change{{Seq: uint64(q.Limit)}}}, f.note(ctx, "records", "")
}

func (f *fakeDaemon) Plan(ctx context.Context, r PlanRequest) (Plan, error) {
	f.mu.Lock()
	f.plans = append(f.plans, r)
	f.mu.Unlock()
	return Plan{Schema: Schema, Changes: 2}, f.note(ctx, "plan", "")
}

func (f *fakeDaemon) Trace(ctx context.Context, r TraceRequest) (Trace, error) {
	return Trace{Schema: Schema, Service: r.Name, Resource: r.Resource, Unit: "cores", Step: 60,
		Values: []float64{r.Since.Seconds()}, Peaks: []float64{1}}, f.note(ctx, "trace", "")
}

func (f *fakeDaemon) Scale(ctx context.Context, r ScaleRequest) (ScaleResult, error) {
	f.mu.Lock()
	f.scales = append(f.scales, r)
	f.mu.Unlock()
	return ScaleResult{CPUQuota: 150000, CPUPeriod: 100000, Memory: 256 << 20}, f.note(ctx, "scale", r.Container)
}

func (f *fakeDaemon) Pause(ctx context.Context, r PauseRequest) (PauseResult, error) {
	f.mu.Lock()
	f.pauses = append(f.pauses, r)
	f.mu.Unlock()
	return PauseResult{Status: "done", Service: r.Service, Hosts: []string{"alpha"}, NotReached: []string{}},
		f.note(ctx, "pause", "")
}

func (f *fakeDaemon) Restore(ctx context.Context, q RestoreRequest) (RestoreResult, error) {
	return RestoreResult{Schema: Schema, Nothing: true}, f.note(ctx, "restore", q.Container)
}

func (f *fakeDaemon) Reload(ctx context.Context, _ None) (Done, error) {
	return Done{"reloaded"}, f.note(ctx, "reload", "")
}

func (f *fakeDaemon) Replicate(ctx context.Context, r ReplicaRequest) ([]string, error) {
	f.mu.Lock()
	f.replicas = append(f.replicas, r)
	f.mu.Unlock()
	if r.Direction == "in" {
		return nil, f.note(ctx, "replicate", r.Container)
	}
	return []string{someID}, f.note(ctx, "replicate", r.Container)
}

func (f *fakeDaemon) Metric(ctx context.Context, c string) (Metric, error) {
	return Metric{
		ContainerID: someID, CPUUsage: 0.82, MemoryUsage: 0.4, NetworkRx: 1, NetworkTx: 2, DiskRead: 3, DiskWrite: 4,
		Timestamp: someTime,
		CPULimit:  ptr(1.0), CPUUtilization: ptr(0.82), WorkingSet: 4 << 20, Pids: 3,
	}, f.note(ctx, "metric", c)
}

func (f *fakeDaemon) Metrics(ctx context.Context, c string, w time.Duration) ([]Metric, error) {
	err := f.note(ctx, "metrics "+w.String(), "")
	return f.metrics, err
}

func (f *fakeDaemon) Watch(ctx context.Context, c string, on bool) (bool, error) {
	if err := f.note(ctx, "watch", c); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	already := f.watched == on
	f.watched = on
	return already, nil
}

func (f *fakeDaemon) Predict(ctx context.Context, c string, w time.Duration) (Predictions, error) {
	err := f.note(ctx, "predict "+w.String(), "")
	if f.few {
		return Predictions{Insufficient: true}, err
	}
	return Predictions{CPU: []float64{0.1, 0.2}}, err
}

func (f *fakeDaemon) WireHistory(ctx context.Context, c string, limit int) ([]WireRecord, error) {
	return []WireRecord{{
		ContainerID: someID, Timestamp: someTime, ScalingType: "vertical", Direction: "up",
		OldConfig: OldConfig{100000, 100000, 1 << 20}, NewConfig: OldConfig{150000, 100000, 1 << 21}, Outcome: "applied",
		Reason: "asked for",
	}}, f.note(ctx, "history", c)
}

func (f *fakeDaemon) Decide(ctx context.Context, c string) (ContainerPlan, error) {
	return ContainerPlan{Action: "scale_up", Reason: "throttled", Confidence: 0.9,
		Plan: []PlanItem{{Container: c, Mark: "~"}}, Controllers: []string{"alpha"}}, f.note(ctx, "decide", c)
}

func (f *fakeDaemon) Identity() (string, string) { return "alpha", "default" }

func (f *fakeDaemon) Neighbors(ctx context.Context) (map[string]string, error) {
	return nil, f.note(ctx, "neighbors", "")
}

func (f *fakeDaemon) Register(ctx context.Context, id, endpoint string) error {
	return f.note(ctx, "register "+id+" "+endpoint, "")
}

func (f *fakeDaemon) Leader(ctx context.Context, c string) (bool, string, error) {
	return true, "alpha", f.note(ctx, "leader", c)
}

func (f *fakeDaemon) Members(ctx context.Context, _ None) (Members, error) {
	return Members{Schema: Schema, Cluster: "effiscale", Self: "n1",
		Members: []MemberView{{ID: "n1", Name: "alpha", Self: true, Since: someTime}}}, f.note(ctx, "members", "")
}

func (f *fakeDaemon) Join(ctx context.Context, q JoinRequest) (JoinResult, error) {
	f.mu.Lock()
	f.joined = append(f.joined, q.Addresses...)
	f.mu.Unlock()
	return JoinResult{Schema: Schema, Answered: len(q.Addresses)}, f.note(ctx, "join", "")
}

func (f *fakeDaemon) Leave(ctx context.Context, q LeaveRequest) (Done, error) {
	return Done{"left"}, f.note(ctx, "leave", q.Name)
}

func (f *fakeDaemon) Keys(ctx context.Context, _ None) (Keys, error) {
	return Keys{Schema: Schema, Keys: []KeyView{{Fingerprint: "01234567", Primary: true, Nodes: 2, Of: 3}}},
		f.note(ctx, "keys", "")
}

func (f *fakeDaemon) KeyChange(ctx context.Context, r KeyRequest) (Keys, error) {
	f.mu.Lock()
	f.keys = append(f.keys, r)
	f.mu.Unlock()
	return Keys{Schema: Schema, Keys: []KeyView{{Fingerprint: "76543210"}}}, f.note(ctx, "key change", "")
}

func (f *fakeDaemon) ClusterStats() ClusterStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

func (f *fakeDaemon) Health() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.health
}

// backend answers every route and service.
func (f *fakeDaemon) backend() Backend {
	return Backend{Node: f, Monitor: f, Controller: f, Execution: f, Routes: []Route{
		OpHealth.Serve(func(context.Context, None) (Done, error) { return Done{"healthy"}, nil }),
		OpStatus.Serve(f.Status), OpPlan.Serve(f.Plan), OpExplain.Serve(f.Explain), OpRecords.Serve(f.Records),
		OpTrace.Serve(f.Trace), OpScale.Serve(f.Scale), OpPause.Serve(f.Pause), OpRestore.Serve(f.Restore),
		OpReload.Serve(f.Reload), OpMembers.Serve(f.Members), OpJoin.Serve(f.Join), OpLeave.Serve(f.Leave),
		OpKeys.Serve(f.Keys), OpKeyChange.Serve(f.KeyChange),
	}}
}

// testServer is a running server and the daemon behind it.
type testServer struct {
	*Server
	d *fakeDaemon
}

// serve runs all services on loopback and a socket, for one test.
func serve(t *testing.T, edit ...func(*Server)) *testServer {
	t.Helper()
	return serveWith(t, Options{}, edit...)
}

func serveWith(t *testing.T, o Options, edit ...func(*Server)) *testServer {
	t.Helper()
	d := &fakeDaemon{}
	o.Monitor, o.Controller, o.Execution = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	o.Socket = filepath.Join(t.TempDir(), "s")
	o.Log, o.Version = zerolog.Nop(), "test"
	s, err := New(d.backend(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edit {
		e(s)
	}
	if err := s.Bind(); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Close(context.Background())
		http.DefaultClient.CloseIdleConnections()
	})
	return &testServer{s, d}
}

// ask makes one request and returns the status and the body.
func (h *testServer) ask(t *testing.T, service, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.Addr(service)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// sameJSON compares two JSON texts; "<time>" in want stands for any RFC 3339
// time in UTC.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if m, ok := w.(map[string]any); ok && m["timestamp"] == "<time>" {
		at, err := time.Parse(time.RFC3339, g.(map[string]any)["timestamp"].(string))
		if err != nil || at.Location() != time.UTC {
			t.Errorf("timestamp is not UTC with a zone: %v %v", at, err)
		}
		g.(map[string]any)["timestamp"] = "<time>"
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("answer (-want +got):\n%s", d)
	}
}

// isProblem checks that a body is {"detail": "…"} and nothing else.
func isProblem(t *testing.T, body, within string) {
	t.Helper()
	var p map[string]string
	if err := json.Unmarshal([]byte(body), &p); err != nil || len(p) != 1 || p["detail"] == "" {
		t.Errorf("not a problem: %s", body)
	}
	if !strings.Contains(p["detail"], within) {
		t.Errorf("detail %q does not say %q", p["detail"], within)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", path, d)
	}
}
