package demo

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

func shapes() []string { return []string{"step", "diurnal", "flash", "leak"} }

// Whatever the host, the load stays within half of it, starts and ends calm, and
// the first limit is too tight for its height and enough for its calm.
func TestPlanFitsTheHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cores := rapid.IntRange(1, 512).Draw(t, "cores")
		shape := rapid.SampledFrom(shapes()).Draw(t, "shape")
		p := planFor(shape, time.Duration(rapid.IntRange(10, 600).Draw(t, "seconds"))*time.Second, cores,
			rapid.Float64Range(0, float64(cores)).Draw(t, "free"))
		x := rapid.Float64Range(0, 1).Draw(t, "x")
		d := p.demand(x)
		if d < p.base-1e-9 || d > p.peak+1e-9 || d > max(0.5*float64(cores), 0.4)+1e-9 {
			t.Errorf("demand %g outside %g..%g on %d cores", d, p.base, p.peak, cores)
		}
		if limit := p.limits.CPU.Cores(); shape != "leak" && (limit >= p.peak || limit <= p.base) {
			t.Errorf("first limit %g for a load of %g..%g", limit, p.base, p.peak)
		}
		if p.demand(0) > p.base+1e-9 || p.demand(1) > p.base+1e-9 {
			t.Error("a run starts or ends under load")
		}
		if h := p.held(time.Duration(x * float64(p.each))); h < 0 || h > leaked || shape != "leak" && h != 0 {
			t.Errorf("holds %s", h)
		}
	})
}

// The generator sends what the plan says, however slow the service is: an open
// loop. What takes longer than its patience is an error.
func TestGeneratorIsAnOpenLoop(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, tt := range []struct {
		name  string
		delay time.Duration
	}{{"quick", 0}, {"slow", 300 * time.Millisecond}} {
		var got atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got.Add(1)
			select {
			case <-time.After(tt.delay):
			case <-r.Context().Done():
			}
		}))
		p := planFor("step", 4*time.Second, 2, 2) // runs of 1.8 s
		g := newGenerator(&p, time.Now())
		target := srv.Listener.Addr().String()
		g.target.Store(&target)
		g.run(t.Context())
		srv.Close()
		want := 0.0
		for x := 0.0; x < 1; x += 0.001 {
			want += p.demand(x) * p.each.Seconds() / workPerRequest.Seconds() / 1000
		}
		if sent := float64(g.sent.Load()); sent < 0.9*want || sent > 1.1*want || got.Load() != g.sent.Load() ||
			g.failed.Load() != 0 {
			t.Errorf("%s: sent %g, arrived %d, failed %d; planned %.0f", tt.name, sent, got.Load(), g.failed.Load(), want)
		}
		if p50 := g.all.quantile(0.5); p50 < tt.delay {
			t.Errorf("%s: p50 %s", tt.name, p50)
		}
	}
}

// A service that is down costs errors, not the demo.
func TestGeneratorSurvivesADeadService(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := l.Addr().String()
	l.Close()
	p := planFor("leak", 2*time.Second, 2, 2)
	g := newGenerator(&p, time.Now())
	g.target.Store(&target)
	g.run(t.Context())
	if g.sent.Load() == 0 || g.sent.Load() != g.failed.Load() {
		t.Errorf("sent %d, failed %d", g.sent.Load(), g.failed.Load())
	}
}

// The service burns what it says, and holds what it is told, within bounds.
func TestService(t *testing.T) {
	s := &service{slots: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", s.work)
	mux.HandleFunc("POST /hold/{bytes}", s.hold)
	do := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	start := time.Now()
	if code, body := do("GET", "/work"); code != 200 || time.Since(start) < workPerRequest {
		t.Errorf("/work: %d %s after %s", code, body, time.Since(start))
	}
	for _, tt := range []struct {
		path string
		code int
		body string
	}{{"/hold/8192", 200, "8192"}, {"/hold/4096", 200, "8192"}, {"/hold/0", 200, "8192"},
		{"/hold/-1", 400, ""}, {"/hold/99999999999999999999", 400, ""}, {"/hold/2147483648", 400, ""}, {"/hold/NaN", 400,
			""}} {
		if code, body := do("POST", tt.path); code != tt.code || tt.body != "" && body != tt.body {
			t.Errorf("%s: %d %q", tt.path, code, body)
		}
	}
}

func TestServeWantsItsLifetime(t *testing.T) {
	for _, args := range [][]string{nil, {"1s", "2s"}, {"soon"}, {"-1s"}} {
		if err := Serve(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

func TestIdentity(t *testing.T) {
	me := idOf(os.Getpid())
	if me == "" || dead(me) {
		t.Errorf("this process is %q, dead %t", me, dead(me))
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := idOf(cmd.Process.Pid)
	_ = cmd.Wait()
	for id, want := range map[string]bool{
		other:                            true,
		strings.Split(me, "-")[0] + "-1": true, // the number was used again
		"":                               false,
		"x-1":                            false,
		"-1-1":                           false,
		"1":                              false,
		"../../etc":                      false,
		"12-34/..":                       false,
	} {
		if got := dead(id); got != want {
			t.Errorf("dead(%q) = %t, want %t", id, got, want)
		}
	}
}

func TestPackIsOneProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("the program"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := pack(&b, file); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	h, err := r.Next()
	if err != nil || h.Name != "effiscale" || h.Mode != 0o755 {
		t.Fatalf("%+v, %v", h, err)
	}
	if body, err := io.ReadAll(r); err != nil || string(body) != "the program" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("more than one file: %v", err)
	}
	if checkStatic(file) == nil {
		t.Error("a text is taken for a program")
	}
}

// bridgeless is an Engine without a bridge.
type bridgeless struct{ Lifecycle }

func (bridgeless) Start(context.Context, knowledge.ContainerID) error { return nil }

// TestDemoWithoutABridge: an Engine without a bridge is named, with what to do.
func TestDemoWithoutABridge(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c, err := docker.Open(docker.Options{Host: e.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := run{
		demo: &demo{Options: Options{Host: e.Host()}, engine: bridgeless{c}}, gen: &generator{},
		id: e.Run(dockertest.Spec{Name: "demo"}),
	}
	r.sampler = &sampler{engine: r.engine}
	err = r.up(t.Context())
	if err == nil || !strings.Contains(err.Error(), "without --bridge=none") || !strings.Contains(err.Error(), e.Host()) {
		t.Errorf("%v", err)
	}
}

// What the daemon or a label says cannot command the terminal.
func TestLinesAreHarmless(t *testing.T) {
	var b strings.Builder
	l := &lines{out: &b}
	l.decision("cpu\x1b[2J 1 -> 2\u009b31m: " + strings.Repeat("because ", 100))
	if s := b.String(); strings.ContainsAny(s, "\x1b\u009b") || len(s) > 700 {
		t.Errorf("%q", s)
	}
}

func TestPictureAndSummary(t *testing.T) {
	for _, shape := range shapes() {
		p := planFor(shape, time.Minute, 2, 2)
		m := update(picture{plan: &p}, stepMsg("making an image"), beginMsg(false), decisionMsg("cpu 0.50 -> 1.00"))
		for i := range 27 {
			m = update(m, tick{at: time.Duration(i) * time.Second, x: float64(i) / 27, demand: p.demand(float64(i) / 27),
				limit: 0.4, use: 0.3,
				memory: 40 * knowledge.MiB, memLimit: 96 * knowledge.MiB, p99: 15 * time.Millisecond})
		}
		if v := m.View().Content; !strings.Contains(v, shape) || !strings.Contains(v, "limit") ||
			strings.Count(v, "\n") > 30 {
			t.Errorf("%s:\n%s", shape, v)
		}
		var b strings.Builder
		d := &demo{Options: Options{Out: &b}, plan: p}
		if err := d.summary(m.res, m.res); err != nil || !strings.Contains(b.String(), "effiscale.enable") {
			t.Errorf("%v\n%s", err, b.String())
		}
		if err := d.summary(result{}, result{}); err != nil { // nothing was measured
			t.Error(err)
		}
	}
}

func update(m picture, msgs ...any) picture {
	for _, msg := range msgs {
		next, _ := m.Update(msg)
		m = next.(picture)
	}
	return m
}

// An undo that fails hides no other, and the newest goes first.
func TestCleanUndoesBackwards(t *testing.T) {
	var order []string
	d := &demo{}
	d.push("a", func(context.Context) error { order = append(order, "a"); return nil })
	d.push("b", func(context.Context) error { order = append(order, "b"); return io.ErrUnexpectedEOF })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.push("c", func(ctx context.Context) error { order = append(order, "c"); return ctx.Err() })
	err := d.clean(ctx)
	if err == nil || !strings.Contains(err.Error(), "the demo's b") || strings.Join(order, "") != "cba" {
		t.Errorf("%v, order %v", err, order)
	}
}

// TestNeedsLinker: the header that names a dynamic linker is found in programs of
// either size and order.
func TestNeedsLinker(t *testing.T) {
	program := func(wide bool, order binary.ByteOrder, kinds ...uint32) []byte {
		b := make([]byte, 64+32*len(kinds))
		copy(b, "\x7fELF\x01\x01")
		if order == binary.BigEndian {
			b[5] = 2
		}
		size, count := 42, 44
		if wide {
			b[4], size, count = 2, 54, 56
			order.PutUint64(b[32:], 64)
		} else {
			order.PutUint32(b[28:], 64)
		}
		order.PutUint16(b[size:], 32)
		order.PutUint16(b[count:], uint16(len(kinds)))
		for i, k := range kinds {
			order.PutUint32(b[64+32*i:], k)
		}
		return b
	}
	for _, wide := range []bool{false, true} {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			for want, kinds := range map[bool][]uint32{false: {1, 2, 6}, true: {6, 3, 1}} {
				if got, err := needsLinker(bytes.NewReader(program(wide, order, kinds...))); got != want || err != nil {
					t.Errorf("64 bits %v, %v, %v: %v, %v", wide, order, kinds, got, err)
				}
			}
		}
	}
	cut := program(true, binary.LittleEndian, 1, 1)
	if _, err := needsLinker(bytes.NewReader(cut[:80])); err == nil {
		t.Error("a program that was cut off")
	}
}
