package api

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func (h *testServer) client(t *testing.T) *Client {
	c := NewClient(h.Addr("socket"))
	t.Cleanup(c.Close)
	return c
}

// TestClient makes each call through the socket.
func TestClient(t *testing.T) {
	h := serve(t)
	c := h.client(t)
	ctx := t.Context()
	if s, err := OpStatus.Call(ctx, c, None{}); err != nil || s.Node.Name != "alpha" || len(s.Containers) != 5 ||
		*s.Containers[0].CPULimit != 0.8 {
		t.Errorf("Status: %+v %v", s, err)
	}
	if e, err := OpExplain.Call(ctx, c, ExplainRequest{"web"}); err != nil || e.Container.Name != "web" {
		t.Errorf("Explain: %+v %v", e, err)
	}
	for _, name := range []string{"web", "shop web/ä %2e?x=1#"} { // a service may be called anything
		if r, err := OpRecords.Call(ctx, c, RecordsRequest{name, 7}); err != nil || r.Name != name || r.Changes[0].Seq != 7 {
			t.Errorf("Records: %+v %v", r, err)
		}
	}
	if p, err := OpPlan.Call(ctx, c, PlanRequest{Name: "alpha/shop web"}); err != nil || p.Changes != 2 ||
		h.d.plans[0].Name != "alpha/shop web" {
		t.Errorf("Plan: %+v %v, asked %+v", p, err, h.d.plans)
	}
	if r, err := OpScale.Call(ctx, c, ScaleRequest{Container: "web", CPU: 1.5, DryRun: true, Key: "k",
		By: "forged"}); err != nil || r.CPUQuota != 150000 {
		t.Errorf("Scale: %+v %v", r, err)
	}
	got := h.d.scales[0]
	if !strings.HasPrefix(got.By, "cli ") || got.CPU != 1.5 || !got.DryRun || got.Key != "k" {
		t.Errorf("the daemon was asked %+v", got)
	}
	pause := PauseRequest{Service: "shop_web", For: time.Hour, OnlyDown: true}
	if p, err := OpPause.Call(ctx, c, pause); err != nil || h.d.pauses[0] != pause || p.Status != "done" ||
		p.Hosts[0] != "alpha" {
		t.Errorf("Pause: %+v %v %+v", p, err, h.d.pauses)
	}
	// HOST/NAME goes through wherever a command takes a name.
	const place = "alpha/web"
	h.d.place = place
	_, err := OpExplain.Call(ctx, c, ExplainRequest{place})
	_, recordsErr := OpRecords.Call(ctx, c, RecordsRequest{place, 1})
	_, traceErr := OpTrace.Call(ctx, c, TraceRequest{Name: place, Resource: "cpu", Since: time.Hour})
	_, scaleErr := OpScale.Call(ctx, c, ScaleRequest{Container: place, CPU: 1})
	_, pauseErr := OpPause.Call(ctx, c, PauseRequest{Service: place})
	_, restoreErr := OpRestore.Call(ctx, c, RestoreRequest{place})
	_, allErr := OpPause.Call(ctx, c, PauseRequest{AllHosts: true})
	if err := errors.Join(err, recordsErr, traceErr, scaleErr, pauseErr, restoreErr, allErr); err != nil {
		t.Error(err)
	}
	if r, err := OpRestore.Call(ctx, c, RestoreRequest{""}); err != nil || !r.Nothing {
		t.Errorf("Restore: %+v %v", r, err)
	}
	if _, err := OpReload.Call(ctx, c, None{}); err != nil {
		t.Error(err)
	}
}

// TestClientErrors: each refusal arrives with its kind and words.
func TestClientErrors(t *testing.T) {
	h := serve(t)
	c := h.client(t)
	ctx := t.Context()
	is := func(err error, kind Kind, says string) {
		t.Helper()
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != kind || !strings.Contains(e.Detail, says) {
			t.Errorf("%#v, want kind %d and %q", err, kind, says)
		}
	}
	_, err := OpExplain.Call(ctx, c, ExplainRequest{"nobody"})
	is(err, KindNotFound, "nobody")
	_, err = OpExplain.Call(ctx, c, ExplainRequest{"../status"})
	is(err, KindBadRequest, "not a container")
	_, err = OpRecords.Call(ctx, c, RecordsRequest{"a\x1b[31m", 1})
	is(err, KindBadRequest, "printable")
	_, err = OpRecords.Call(ctx, c, RecordsRequest{"..", 1})
	is(err, KindNotFound, "..")
	_, err = OpRecords.Call(ctx, c, RecordsRequest{"web", -1})
	is(err, KindBadRequest, "limit")
	_, err = OpScale.Call(ctx, c, ScaleRequest{Container: "web"})
	is(err, KindBadRequest, "empty request")
	_, err = OpScale.Call(ctx, c, ScaleRequest{Container: "web", CPU: -1})
	is(err, KindBadRequest, "cpu")
	_, err = OpScale.Call(ctx, c, ScaleRequest{Container: "web", Memory: -1})
	is(err, KindBadRequest, "memory")
	for _, bad := range []struct {
		r    PauseRequest
		says string
	}{
		{PauseRequest{Service: "x", For: -1}, "for"}, {PauseRequest{}, "name"},
		{PauseRequest{Service: "x", All: true}, "either"},
		{PauseRequest{All: true, AllHosts: true}, "either"}, {PauseRequest{Service: "a/\x1b"}, "printable"},
	} {
		_, err = OpPause.Call(ctx, c, bad.r)
		is(err, KindBadRequest, bad.says)
	}
	_, err = OpPlan.Call(ctx, c, PlanRequest{Name: "x", AllHosts: true})
	is(err, KindBadRequest, "all_hosts")
	_, err = OpExplain.Call(ctx, c, ExplainRequest{"a/b/c"})
	is(err, KindBadRequest, "not a container")
	for kind, status := range map[Kind]string{KindRefused: "a guard", KindUnavailable: "no Engine", KindTimeout: "slow",
		KindInternal: "broken", KindForbidden: "no"} {
		h.d.fail = Errorf(kind, "%s", status)
		_, err = OpReload.Call(ctx, c, None{})
		is(err, kind, status)
	}
	_, err = OpRestore.Call(ctx, c, RestoreRequest{"a b"})
	is(err, KindBadRequest, "not a container")

	h.d.fail, h.d.hang = nil, true
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = OpPlan.Call(short, c, PlanRequest{})
	is(err, KindTimeout, "in time")
}

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "nothing"), file, deadSocket(t, dir)} {
		_, err := OpStatus.Call(t.Context(), NewClient(path), None{})
		if !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", path, err)
		}
		wantWords(t, err, path, "sudo systemctl start effiscale", "--socket")
	}
}

// TestClientWithoutPermission: the message names the way in.
func TestClientWithoutPermission(t *testing.T) {
	err := NewClient("/run/x").unreachable(t.Context(), &net.OpError{Op: "dial",
		Err: os.NewSyscallError("connect", unix.EACCES)})
	if KindOf(err) != KindForbidden || !errors.Is(err, fs.ErrPermission) ||
		errors.Is(Errorf(KindRefused, "x"), fs.ErrPermission) {
		t.Errorf("%#v", err)
	}
	wantWords(t, err, "/run/x", "usermod -aG effiscale", "sudo")
}

// deadSocket is the socket of a daemon that was killed.
func deadSocket(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "dead")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	return path
}

func TestSocketFile(t *testing.T) {
	dir := t.TempDir()
	open := func(path string) (*Server, error) {
		o := options()
		o.Socket = path
		s, err := New((&fakeDaemon{}).backend(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		return s, s.Bind()
	}
	dead := deadSocket(t, dir)
	first, err := open(dead)
	if err != nil {
		t.Fatalf("the socket of a dead daemon: %v", err)
	}
	if st, err := os.Stat(dead); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v %v", st, err)
	}
	_, err = open(dead)
	wantWords(t, err, dead, "another daemon answers")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = open(file)
	wantWords(t, err, file, "is not a socket")
	_, err = open(filepath.Join(dir, strings.Repeat("x", 100)))
	wantWords(t, err, "api.socket", "bytes")
	_, err = open(filepath.Join(file, "s"))
	wantWords(t, err, "api.socket")
	if s, err := open(filepath.Join(dir, "new", "deep", "s")); err != nil {
		t.Error(err)
	} else if s.Addr("socket") == "" {
		t.Error("no address")
	}
	// A socket that another daemon has put in its place is left alone.
	if err := os.Remove(dead); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first.Close(context.Background())
	if _, err := os.Stat(dead); err != nil {
		t.Error(err)
	}
}

// TestRow56Peers: row 56, who opened the socket may read; writes are for root,
// the daemon's user and the group.
func TestRow56Peers(t *testing.T) {
	const self, group, nobody = 1001, 4242, 4_000_000
	for _, c := range []struct {
		uid, gid uint32
		want     bool
	}{{0, nobody, true}, {self, nobody, true}, {nobody, group, true}, {nobody, nobody, false}} {
		if got := mayWrite(&unix.Ucred{Uid: c.uid, Gid: c.gid}, self, group); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	h := serve(t)
	stranger := func(method string) *problem {
		r, _ := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, &unix.Ucred{Uid: nobody, Gid: nobody}),
			method, "/scale", nil)
		_, p := h.admitPeer(nil, r)
		return p
	}
	if p := stranger("GET"); p != nil {
		t.Error(p)
	}
	if p := stranger("POST"); p == nil || p.status != 403 || !strings.Contains(p.Detail, "sudo") {
		t.Errorf("%+v", p)
	}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", "/scale", nil)
	if _, p := h.admitPeer(nil, r); p == nil {
		t.Error("a peer without credentials may write")
	}
}

// TestSocketDescription: the socket describes each operation, from the table.
func TestSocketDescription(t *testing.T) {
	h := serve(t)
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Addr("socket"))
	}}}
	t.Cleanup(c.CloseIdleConnections)
	resp, err := c.Get("http://effiscale/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.Status, err)
	}
	golden(t, "openapi-socket.json", string(page)+"\n")
}

func TestSocketBodies(t *testing.T) {
	h := serve(t)
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Addr("socket"))
	}}}
	t.Cleanup(c.CloseIdleConnections)
	for body, want := range map[string]int{
		`{"container":"web","cpu":1}`:              200,
		`{"container":"web","cpu":1,"cpus":2}`:     422,
		`{"container":"web","cpu":"1"}`:            422,
		`{"container":"web","cpu":1} {}`:           400,
		`{"container":"web","direction":"around"}`: 422,
		`{"container":"..","cpu":1}`:               400,
		`{"container":`:                            400,
		``:                                         400,
		strings.Repeat(" ", maxBody+1):             413,
	} {
		resp, err := c.Post("http://effiscale/scale", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%.60s: status %d, want %d", body, resp.StatusCode, want)
		}
	}
	for call, want := range map[string]int{"DELETE /status": 405, "GET /nothing": 404, "GET /scale": 405,
		"GET /health": 200, "GET /records/web?limit=x": 422, "GET /records/web": 200,
		"GET /trace/web": 422, "GET /trace/web?resource=cpu&since=60": 200, "GET /trace/web?resource=net&since=60": 422,
		"GET /trace/web?resource=cpu&since=NaN": 422, "GET /trace/web?resource=cpu&since=1e9": 422, "POST /trace/web": 405} {
		method, path, _ := strings.Cut(call, " ")
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", call, resp.StatusCode, want)
		}
	}
}
