package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// someKey is 32 bytes.
var someKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

func someStats() ClusterStats {
	return ClusterStats{
		Members: map[string]int{"alive": 2, "suspect": 0, "failed": 1, "left": 0}, GossipHealth: 1, Claims: 5, Majority: true,
		Takeovers: 2, TermsRefused: 3,
		RelaySent: 1000, RelayReceived: 2000, RelayErrors: 4, RelayDropped: 6,
		TrustRefused: map[string]uint64{"replay": 7}, ReportsRefused: map[string]uint64{"stale": 8},
		Intents: map[string]uint64{"obeyed": 9, "refused": 10},
	}
}

// TestClusterCalls makes each call about the cluster through the socket.
func TestClusterCalls(t *testing.T) {
	h := serve(t)
	c := h.client(t)
	ctx := t.Context()
	if m, err := OpMembers.Call(ctx, c, None{}); err != nil || m.Cluster != "effiscale" || len(m.Members) != 1 ||
		!m.Members[0].Self {
		t.Errorf("Members: %+v %v", m, err)
	}
	addrs := []string{"beta", "10.0.0.2:7946", "::1", "[fd00::1]:1"}
	if r, err := OpJoin.Call(ctx, c, JoinRequest{addrs}); err != nil || r.Answered != 4 ||
		!slices.Equal(h.d.joined, addrs) {
		t.Errorf("Join: %+v %v, asked %q", r, err, h.d.joined)
	}
	if k, err := OpKeys.Call(ctx, c, None{}); err != nil || len(k.Keys) != 1 || k.Keys[0].Nodes != 2 {
		t.Errorf("Keys: %+v %v", k, err)
	}
	for _, do := range []string{"add", "use", "remove"} {
		want := KeyRequest{Do: do, Key: someKey}
		if k, err := OpKeyChange.Call(ctx, c, want); err != nil || len(k.Keys) != 1 || h.d.keys[len(h.d.keys)-1] != want {
			t.Errorf("KeyChange: %+v %v, asked %+v", k, err, h.d.keys)
		}
	}
	if _, err := OpLeave.Call(ctx, c, LeaveRequest{}); err != nil || !slices.Contains(h.d.asked(), "leave") {
		t.Errorf("Leave: %v, asked %q", err, h.d.asked())
	}
	h.d.fail = Errorf(KindRefused, "the last key")
	if _, err := OpKeyChange.Call(ctx, c, KeyRequest{Do: "remove", Key: someKey}); KindOf(err) != KindRefused {
		t.Errorf("KeyChange: %v", err)
	}
}

// TestClusterCallErrors: what is malformed does not reach the daemon, and no answer
// repeats a key.
func TestClusterCallErrors(t *testing.T) {
	h := serve(t)
	c := h.client(t)
	for _, addrs := range [][]string{nil, make([]string, 65), {""}, {":7946"}, {"beta:0"}, {"beta:70000"}, {"a b"},
		{"a/b:1"}, {"http://beta:1"}, {"beta", "\x1b[2J"}} {
		if _, err := OpJoin.Call(t.Context(), c, JoinRequest{addrs}); KindOf(err) != KindBadRequest ||
			!strings.Contains(err.Error(), "addresses") {
			t.Errorf("%q: %v", addrs, err)
		}
	}
	const secret = "c2VjcmV0"
	for _, r := range []KeyRequest{{}, {Do: "add"}, {Do: "add", Key: secret}, {Do: "add", Key: someKey[:43]},
		{Do: "add", Key: someKey + someKey}, {Do: "rotate", Key: someKey}, {Do: "use", Key: secret + "\n" + secret}} {
		if _, err := OpKeyChange.Call(t.Context(), c, r); KindOf(err) != KindBadRequest ||
			strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), someKey[:8]) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if asked := h.d.asked(); len(asked) > 0 {
		t.Errorf("the daemon was asked %q", asked)
	}
}

// TestClusterAuthorisation: who may open the socket may look; changes are for those
// who may change anything else (row 56).
func TestClusterAuthorisation(t *testing.T) {
	h := serve(t)
	const nobody = 4_000_000
	for call, want := range map[string]int{"GET /members": 200, "GET /keys": 200, "POST /join": 403, "POST /leave": 403,
		"POST /keys": 403} {
		method, path, _ := strings.Cut(call, " ")
		r, _ := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, &unix.Ucred{Uid: nobody, Gid: nobody}),
			method, path, nil)
		status := 200
		if _, p := h.admitPeer(nil, r); p != nil {
			status = p.status
		}
		if status != want {
			t.Errorf("%s: %d, want %d", call, status, want)
		}
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Addr("socket"))
	}}}
	t.Cleanup(c.CloseIdleConnections)
	for call, want := range map[string]int{"POST /members": 405, "GET /join": 405, "DELETE /keys": 405,
		"GET /leave": 405} {
		method, path, _ := strings.Cut(call, " ")
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://effiscale"+path, nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", call, resp.StatusCode, want)
		}
	}
	for _, service := range []string{Monitor, Controller, Execution} { // the cluster is the socket's
		if status, _ := h.ask(t, service, "GET", "/keys", ""); status != 404 {
			t.Errorf("%s: %d", service, status)
		}
	}
}

// TestClusterMetrics: without a cluster there is one member; words of others do not
// grow the page, nor break it.
func TestClusterMetrics(t *testing.T) {
	causes := map[string]uint64{"": 1, "a\xff": 2, "a\nb": 3}
	for i := range 10_000 {
		causes[fmt.Sprintf("w%d", i)] = 1
	}
	for _, c := range []struct {
		d    *fakeDaemon
		want []string
	}{
		{&fakeDaemon{}, []string{`effiscale_cluster_members{state="alive"} 1`, "effiscale_cluster_claims 0",
			`effiscale_relay_bytes_total{direction="sent"} 0`}},
		{&fakeDaemon{stats: someStats()}, []string{`effiscale_cluster_members{state="failed"} 1`,
			`effiscale_cluster_members{state="alive"} 2`}},
		{&fakeDaemon{stats: ClusterStats{TrustRefused: causes}},
			[]string{fmt.Sprintf(`effiscale_trust_refused_total{cause="other"} %d`, 10_000+6-maxWords+1)}},
		{&fakeDaemon{stats: someStats(), fail: errors.New("busy")},
			[]string{"effiscale_node_up 0", "effiscale_cluster_claims 5"}},
	} {
		m := NewMetrics("x")
		if err := m.watch(c.d); err != nil {
			t.Fatal(err)
		}
		page := m.text(t)
		for _, want := range c.want {
			if !strings.Contains(page, want+"\n") {
				t.Errorf("no %s", want)
			}
		}
		if n := strings.Count(page, "effiscale_trust_refused_total{"); n > maxWords+1 {
			t.Errorf("%d causes", n)
		}
		if t.Failed() {
			t.Fatal(page)
		}
	}
}

// FuzzPeerForm: what passes can be handed to a dialler, and to a log.
func FuzzPeerForm(f *testing.F) {
	for _, s := range []string{"a", "a:1", "[::1]:1", "::1", ":1", "a:0", "a:b", "a:99999", "[a]:1", "fe80::1%eth0",
		"a\x00:1", "-a:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if peerForm(s) && (s == "" || len(s) > 300 || strings.ContainsFunc(s,
			func(r rune) bool { return r <= ' ' || r > '~' })) {
			t.Errorf("%q", s)
		}
	})
}
