package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// earlierRequests are the requests of the commands of commit 932bd6d, byte by byte. Its daemon
// refuses keys that it does not know.
var earlierRequests = []string{
	`GET /health`,
	`GET /status`,
	`GET /explain/beta%2Fweb`,
	`GET /records/web?limit=20`,
	`GET /plan?name=web`,
	`GET /plan?all_hosts=true`,
	`GET /trace/web?resource=cpu&since=3600`,
	`GET /members`,
	`GET /keys`,
	`POST /scale {"container":"web","direction":"","cpu":1.5,"memory":0,"dry_run":true,"key":""}`,
	`POST /pause {"service":"web","for":7200000000000,"only_down":true,"resume":false}`,
	`POST /pause {"service":"","for":0,"only_down":false,"resume":true,"all_hosts":true}`,
	`POST /restore {"container":"web"}`,
	`POST /restore {"container":""}`,
	`POST /reload {}`,
	`POST /join {"addresses":["10.0.0.1:7946"]}`,
	`POST /leave {}`,
	`POST /leave {"name":"beta"}`,
	`POST /keys {"do":"add","key":"` + someKey + `"}`,
}

// TestRequestsOfEarlierCommands: the daemon answers them, those without a limit as well.
func TestRequestsOfEarlierCommands(t *testing.T) {
	h := serve(t)
	h.d.place = "beta/web"
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Addr("socket"))
	}}}
	t.Cleanup(c.CloseIdleConnections)
	for _, line := range append([]string{`GET /plan?`, `GET /records/web?limit=0`}, earlierRequests...) {
		verb, rest, _ := strings.Cut(line, " ")
		path, body, _ := strings.Cut(rest, " ")
		req, err := http.NewRequestWithContext(t.Context(), verb, "http://effiscale"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := http.StatusOK
		if strings.HasSuffix(line, `"beta"}`) { // the fake daemon has no such member
			want = http.StatusNotFound
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %d %s", line, resp.StatusCode, text)
		}
	}
}

// TestRequestsToEarlierDaemons: the commands send the same.
func TestRequestsToEarlierDaemons(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan string, 1)
	daemon := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			sent <- strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
			_, _ = io.WriteString(w, "{}")
		})}
	done := make(chan struct{})
	go func() { defer close(done); _ = daemon.Serve(ln) }()
	c := NewClient(socket)
	t.Cleanup(func() { c.Close(); _ = daemon.Close(); <-done })
	calls := []func() error{
		callOf(t, c, OpHealth, None{}),
		callOf(t, c, OpStatus, None{}),
		callOf(t, c, OpExplain, ExplainRequest{Name: "beta/web"}),
		callOf(t, c, OpRecords, RecordsRequest{Name: "web", Limit: 20}),
		callOf(t, c, OpPlan, PlanRequest{Name: "web"}),
		callOf(t, c, OpPlan, PlanRequest{AllHosts: true}),
		callOf(t, c, OpTrace, TraceRequest{Name: "web", Resource: "cpu", Since: time.Hour}),
		callOf(t, c, OpMembers, None{}),
		callOf(t, c, OpKeys, None{}),
		callOf(t, c, OpScale, ScaleRequest{Container: "web", CPU: 1.5, DryRun: true}),
		callOf(t, c, OpPause, PauseRequest{Service: "web", For: 2 * time.Hour, OnlyDown: true}),
		callOf(t, c, OpPause, PauseRequest{Resume: true, AllHosts: true}),
		callOf(t, c, OpRestore, RestoreRequest{Container: "web"}),
		callOf(t, c, OpRestore, RestoreRequest{}),
		callOf(t, c, OpReload, None{}),
		callOf(t, c, OpJoin, JoinRequest{Addresses: []string{"10.0.0.1:7946"}}),
		callOf(t, c, OpLeave, LeaveRequest{}),
		callOf(t, c, OpLeave, LeaveRequest{Name: "beta"}),
		callOf(t, c, OpKeyChange, KeyRequest{Do: "add", Key: someKey}),
	}
	for i, call := range calls {
		if err := call(); err != nil {
			t.Fatal(err)
		}
		if got := <-sent; got != earlierRequests[i] {
			t.Errorf("sent %s, an earlier daemon expects %s", got, earlierRequests[i])
		}
	}
}

func callOf[Q, R any](t *testing.T, c Caller, op Operation[Q, R], q Q) func() error {
	return func() error { _, err := op.Call(t.Context(), c, q); return err }
}
