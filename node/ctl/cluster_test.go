package ctl

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/effiscale/effiscale/node/api"
)

// clusterKind is the cluster that a fake daemon is in.
type clusterKind uint8

const (
	alone clusterKind = iota
	healthy
	unsettled // the rings differ
	minority
)

const (
	betaID  = "3f2a91bc0d1e2f30415263748596a7b8"
	gammaID = "9c0d1e2f30415263748596a7b83f2a91"
	ringA   = "1f2e3d4c5b6a7988"
	ringB   = "8897a6b5c4d3e2f1"
)

func (k clusterKind) alive() int {
	return map[clusterKind]int{alone: 1, healthy: 3, unsettled: 3, minority: 1}[k]
}

func (k clusterKind) status(st *api.Status) {
	if k == alone {
		return
	}
	alpha := api.HostView{ID: st.Node.ID, Name: "alpha", Status: "alive", CPUs: 8, Ring: ringA}
	beta := api.HostView{ID: betaID, Name: "beta", Status: "alive", CPUs: 8, CPUUsed: 2, MemoryBytes: 32 << 30,
		MemoryUsed: 11 << 30, Containers: 5, Managed: 4, Ring: ringA, PoolCPU: 7.6, PoolCPUGranted: 1.25}
	gamma := api.HostView{ID: gammaID, Name: "gamma", Status: "alive", CPUs: 16, CPUUsed: 13.9, MemoryBytes: 64 << 30,
		MemoryUsed: 55 << 30, Containers: 8, Managed: 8, Ring: ringA, Degraded: true}
	switch k {
	case unsettled:
		beta.Ring = ringB
		gamma = api.HostView{ID: gammaID, Name: "gamma\x1b[2J", Status: "suspect", Error: "no answer within 2s"}
	case minority:
		beta.Status, gamma.Status = "failed", "failed"
	}
	st.Node.Members = 3
	st.Cluster = &api.ClusterView{Name: "effiscale", Members: 3, Alive: k.alive(), Expected: 3, Majority: k != minority,
		Encrypted: true, Ring: ringA,
		RingsDiffer: k == unsettled, Owned: 2, Hosts: []api.HostView{gamma, alpha, beta}}
	st.Cluster.SummaryOf = map[clusterKind]int{healthy: 3, unsettled: 2}[k]
	st.Cluster.Summary = api.Summary{Actions: 40, Failed: 2, Reverted: 1, DriftRepaired: 3, SavedCPU: -0.5,
		SavedMemory: 7 << 30}
}

// services moves one service to another owner, and brings in a container of another host.
func (k clusterKind) services(st *api.Status) {
	if k == alone {
		return
	}
	st.Services[0].Owner, st.Services[0].Term, st.Services[0].Warm = "beta", "7 of 3f2a91bc", []string{"alpha", "gamma"}
	if k != healthy {
		return
	}
	far := st.Containers[0]
	far.ID, far.Name, far.Host = "9"+testID[1:], "shop-web-2", "a-host-with-a-long-name"
	st.Containers = slices.Insert(st.Containers, 1, far)
	st.Services[0].Containers = append(st.Services[0].Containers, far.Name)
}

// TestPausedOnSomeHosts: what holds on some hosts only is not said of the service.
func TestPausedOnSomeHosts(t *testing.T) {
	p := &page{now: time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)}
	for want, s := range map[string]api.ServiceView{
		"":                                 {},
		"paused until resumed":             {Paused: "until resumed"},
		"paused for another 9m58s":         {Paused: "until 2026-03-14T15:09:58Z"},
		"reductions paused for another 5s": {Paused: "down until 2026-03-14T15:00:05Z"},
		"paused on beta":                   {Pauses: map[string]string{"beta": "until 2026-03-14T15:09:58Z"}},
		"paused on beta, gamma; reductions paused on alpha": {Pauses: map[string]string{
			"alpha": "down until resumed", "gamma": "until resumed", "beta": "until 2026-03-14T15:09:58Z"}},
	} {
		if got := p.pauseOf(s); got != want {
			t.Errorf("%+v: %q, not %q", s, got, want)
		}
	}
}

func (k clusterKind) explain(ex api.Explain) api.Explain {
	switch k {
	case healthy:
		ex.Owner, ex.OwnerState, ex.Term, ex.Warm, ex.IntentAge = "beta", "alive", "7 of 3f2a91bc",
			[]string{"alpha", "gamma"}, 4.2
	case minority:
		ex.Owner, ex.OwnerState, ex.Term, ex.IntentAge = "beta", "failed", "7 of 3f2a91bc", 95
	case unsettled:
		ex.Term, ex.OwnerState, ex.Warm = "8 of 01j9zk", "alive", []string{"gamma"}
	}
	return ex
}

func (f *fakeClient) Members(context.Context) (api.Members, error) {
	k := f.cluster
	m := api.Members{Schema: api.Schema, Cluster: "effiscale", Self: "01J9ZK", Encrypted: k != alone, Ring: ringA,
		RingsDiffer: k == unsettled,
		Majority:    k != minority, Expected: 3, Problems: []string{}}
	alpha := api.MemberView{ID: "01J9ZK", Name: "alpha", Address: "10.0.0.11:7946", Relay: "10.0.0.11:7947",
		State: "participant", Status: "alive", Version: "0.1.0 (commit 4f2a9c1)",
		Protocol: 1, Zone: "default", Load: 0.64, CPUs: 8, MemoryBytes: 32 << 30, Owns: 7, OwnsNow: true, Ring: ringA,
		Self: true, Since: ago(76 * time.Hour)}
	if k == alone {
		m.Expected, alpha.Address, alpha.Relay = 1, "127.0.0.1:7946", "127.0.0.1:7947"
		m.Members = []api.MemberView{alpha}
		return m, f.err
	}
	beta := alpha
	beta.ID, beta.Name, beta.Address, beta.Relay, beta.Self, beta.Load, beta.Owns, beta.RTTMillis = betaID, "beta",
		"10.0.0.12:7946", "10.0.0.12:7947", false, 0.25, 6, 0.24
	gamma := beta
	gamma.ID, gamma.Name, gamma.Address, gamma.Relay = gammaID, "gamma\x1b]0;owned\x07-with-a-very-long-name",
		"[2001:db8:1234:5678:9abc:def0:1234:5678]:7946", "[2001:db8:1234:5678:9abc:def0:1234:5678]:7947"
	gamma.State, gamma.Owns, gamma.RTTMillis, gamma.Version = "waiting", 0, 31.4, "v0.0.0-20260314150926-4f2a9c1d2e3f"
	gamma.Note = "started 3s ago: it plans for nothing until gossip has settled"
	m.Members = []api.MemberView{gamma, beta, alpha}
	switch k {
	case healthy:
		left := beta
		left.ID, left.Name, left.Status, left.Since = "77"+betaID[2:], "delta", "left", ago(2*time.Hour)
		refused := beta
		refused.ID, refused.Status, refused.Since, refused.Note = "78"+betaID[2:], "refused", ago(2*time.Minute),
			"another node of this name participated before: give that host another node.name; listed for ten minutes"
		m.Members = append(m.Members, left, refused)
	case unsettled:
		m.Members[1].Ring, m.Members[0].Status, m.Members[0].OwnsNow = ringB, "suspect", false
		m.Problems = []string{"beta runs protocol 1, alpha 2: upgrade beta; until then new features are off"}
	case minority:
		m.Members[0].Status, m.Members[0].Note, m.Members[1].Status = "failed", "", "failed"
		m.Members[0].Since, m.Members[1].Since = ago(5*time.Minute), ago(95*time.Second)
	}
	return m, f.err
}

func (f *fakeClient) Join(_ context.Context, addrs []string) (api.JoinResult, error) {
	f.joined = addrs
	r := api.JoinResult{Schema: api.Schema, Failed: []string{}}
	for _, a := range addrs {
		if strings.HasPrefix(a, "10.") {
			r.Answered++
			continue
		}
		r.Failed = append(r.Failed, a+": lookup \x1b[31m"+a+": no such host")
	}
	return r, f.err
}

func (f *fakeClient) Leave(context.Context, string) error { return f.err }

func (f *fakeClient) Keys(context.Context) (api.Keys, error) {
	k := api.Keys{Schema: api.Schema, Keys: []api.KeyView{}, Notes: []string{}}
	if f.cluster != alone {
		k.Keys = []api.KeyView{{Fingerprint: "0a1b2c3d", Primary: true, Senders: 2, Nodes: 3, Of: 3}}
	}
	if f.cluster == unsettled {
		k.Keys = append(k.Keys, api.KeyView{Fingerprint: "9f8e7d6c", Senders: 1, Nodes: 2, Of: 3})
		k.Notes = append(k.Notes, "gamma is down: to return it needs the key that the others encrypt with")
	}
	return k, f.err
}

func (f *fakeClient) KeyChange(_ context.Context, r api.KeyRequest) (api.Keys, error) {
	f.keys = append(f.keys, r)
	return api.Keys{Schema: api.Schema, Keys: []api.KeyView{{Fingerprint: "0a1b2c3d", Primary: true, Senders: 3, Nodes: 3,
		Of: 3}, {Fingerprint: "9f8e7d6c", Nodes: 3, Of: 3}}, Notes: []string{}}, f.err
}

// testKey is 32 bytes.
const testKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// clusterGoldens are the cases of a cluster.
func clusterGoldens() []goldenCase {
	in := func(k clusterKind) fakeClient { return fakeClient{cluster: k} }
	refused := fakeClient{err: api.Errorf(api.KindRefused,
		"this is the key that is used: `effiscale keys use` another one first")}
	return []goldenCase{
		{"status-cluster", in(healthy), ExitOK, "status"},
		{"status-cluster-json", in(healthy), ExitOK, "status|-o|json"},
		{"status-unsettled", in(unsettled), ExitOK, "status"},
		{"status-minority", in(minority), ExitOK, "status"},
		{"status-minority-empty", fakeClient{cluster: minority, quiet: true}, ExitOK, "status"},
		{"explain-cluster", in(healthy), ExitOK, "explain|shop-web-1"},
		{"explain-cluster-json", in(healthy), ExitOK, "explain|shop-web-1|-o|json"},
		{"explain-owner-failed", in(minority), ExitOK, "explain|shop-web-1"},
		{"explain-owner-here", in(unsettled), ExitOK, "explain|shop-web-1"},
		{"history-hosts", in(minority), ExitOK, "history|shop-web-1"},
		{"scale-host", fakeClient{cluster: healthy, quiet: true}, ExitOK, "scale|shop-web-1|--cpu|1"},
		{"scale-host-down", fakeClient{err: api.Errorf(api.KindUnavailable,
			"host beta cannot be reached: connection refused; `effiscale members` shows its state")}, ExitUnreachable,
			"scale|shop-web-1|--cpu|1"},
		{"pause-hosts", in(healthy), ExitOK, "pause|shop_web|--for|2h"},
		{"pause-all", in(healthy), ExitOK, "pause|--all"},
		{"pause-all-hosts", in(healthy), ExitOK, "pause|--all-hosts|--only|down"},
		{"pause-unreached", in(minority), ExitUnreachable, "pause|--all-hosts"},
		{"pause-unreached-json", in(minority), ExitUnreachable, "pause|--all-hosts|-o|json"},
		{"pause-both", in(healthy), ExitUsage, "pause|shop_web|--all-hosts"},
		{"pause-none", in(healthy), ExitUsage, "pause"},
		{"pause-host", in(alone), ExitOK, "pause|alpha/shop_web"},
		{"pause-slashes", in(alone), ExitUsage, "pause|alpha/shop/web/db"},
		{"resume-all-hosts", in(healthy), ExitOK, "resume|--all-hosts"},
		{"plan-hosts", in(healthy), ExitWouldChange, "plan|--all-hosts"},
		{"plan-unreached", in(minority), ExitUnreachable, "plan|shop_web"},
		{"plan-both", in(healthy), ExitUsage, "plan|shop_web|--all-hosts"},
		{"export-elsewhere", fakeClient{cluster: healthy, quiet: true}, ExitOK, "export|shop-web-1"},
		{"tune-elsewhere", in(healthy), ExitOK, "tune|shop-web-1|--since|14d"},
		{"tune-idle", in(unsettled), ExitOK, "tune|shop-web-1"},
		{"tune-idle-json", in(unsettled), ExitOK, "tune|shop-web-1|-o|json"},
		{"help-pause", in(alone), ExitOK, "help|pause"},
		{"help-plan", in(alone), ExitOK, "help|plan"},
		{"help-restore", in(alone), ExitOK, "help|restore"},
		{"help-tune", in(alone), ExitOK, "help|tune"},
		{"members", in(healthy), ExitOK, "members"},
		{"members-json", in(healthy), ExitOK, "members|-o|json"},
		{"members-alone", in(alone), ExitOK, "members"},
		{"members-unsettled", in(unsettled), ExitOK, "members"},
		{"members-minority", in(minority), ExitOK, "members"},
		{"members-args", in(healthy), ExitUsage, "members|beta"},
		{"members-not-running", fakeClient{err: errNotRunning}, ExitUnreachable, "members"},
		{"join", in(healthy), ExitOK, "join|10.0.0.12|10.0.0.13:7946"},
		{"join-json", in(healthy), ExitOK, "join|10.0.0.12|beta|-o|json"},
		{"join-some", in(healthy), ExitOK, "join|10.0.0.12|beta"},
		{"join-nobody", in(alone), ExitUnreachable, "join|beta"},
		{"join-none", in(alone), ExitUsage, "join"},
		{"join-port", in(alone), ExitUsage, "join|beta:0"},
		{"join-url", in(alone), ExitUsage, "join|http://beta:7946"},
		{"join-escape", in(alone), ExitUsage, "join|beta\x1b[2J"},
		{"leave", in(healthy), ExitOK, "leave"},
		{"leave-json", in(healthy), ExitOK, "leave|-o|json"},
		{"keys-list", in(unsettled), ExitOK, "keys|list"},
		{"keys-list-json", in(unsettled), ExitOK, "keys|list|-o|json"},
		{"keys-list-none", in(alone), ExitOK, "keys|list"},
		{"keys-add", in(healthy), ExitOK, "keys|add|testdata/keys/one"},
		{"keys-add-json", in(healthy), ExitOK, "keys|add|testdata/keys/one|-o|json"},
		{"keys-use", in(healthy), ExitOK, "keys|use|testdata/keys/one"},
		{"keys-remove-refused", refused, ExitRefused, "keys|remove|testdata/keys/one"},
		{"keys-add-argv", in(healthy), ExitUsage, "keys|add|" + testKey},
		{"keys-add-missing", in(healthy), ExitUsage, "keys|add|testdata/keys/none"},
		{"keys-add-directory", in(healthy), ExitUsage, "keys|add|testdata"},
		{"keys-add-two", in(healthy), ExitUsage, "keys|add|testdata/keys/two"},
		{"keys-add-short", in(healthy), ExitUsage, "keys|add|testdata/keys/short"},
		{"keys-add-empty", in(healthy), ExitUsage, "keys|add|-"},
		{"keys-add-nothing", in(healthy), ExitUsage, "keys|add"},
		{"keys-unknown", in(healthy), ExitUsage, "keys|rotate"},
		{"keys", in(healthy), ExitOK, "keys"},
		{"keygen-json", in(alone), ExitUsage, "keygen|-o|json"},
		{"help-keygen", in(alone), ExitOK, "help|keygen"},
		{"help-join", in(alone), ExitOK, "help|join"},
		{"complete-host", in(healthy), ExitOK, "__complete|history|a-host-with-a-long-name/shop"},
		{"completion-unknown", in(alone), ExitUsage, "completion|tcsh"},
		{"plan-two", in(alone), ExitUsage, "plan|web|db"},
		{"complete-keys", in(healthy), ExitOK, "__complete|keys|"},
		{"complete-key-file", in(healthy), ExitOK, "__complete|keys|add|"},
		{"complete-join", in(healthy), ExitOK, "__complete|join|"},
	}
}

// A key goes to the daemon as it stands in the file or comes in, and into no message.
func TestKeysReachTheDaemon(t *testing.T) {
	f := &fakeClient{cluster: healthy}
	with := func(text string) func(*Stdio) { return func(s *Stdio) { s.In = strings.NewReader(text) } }
	for _, got := range []outcome{
		invoke(t, f, nil, "keys", "add", "testdata/keys/one"),
		invoke(t, f, with("# the new one\n\n  "+testKey+" \r\n"), "keys", "use", "-"),
		invoke(t, f, with(testKey), "keys", "remove", "-"),
	} {
		if got.code != ExitOK || strings.Contains(got.out+got.err, testKey[:8]) {
			t.Errorf("%+v", got)
		}
	}
	want := []api.KeyRequest{{Do: "add", Key: testKey}, {Do: "use", Key: testKey}, {Do: "remove", Key: testKey}}
	if !slices.Equal(f.keys, want) {
		t.Errorf("asked %+v", f.keys)
	}
	for name, bad := range map[string]string{"two": testKey + "\n" + testKey, "wrong": testKey[1:],
		"huge": strings.Repeat(" ", maxKeyFile) + testKey, "binary": "\xff\x00"} {
		if got := invoke(t, f, with(bad), "keys", "add", "-"); got.code != ExitUsage ||
			strings.Contains(got.err, testKey[1:9]) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := invoke(t, f, nil, "keys", "add", testKey[:40]); got.code != ExitUsage ||
		strings.Contains(got.err, testKey[:8]) {
		t.Errorf("most of a key: %+v", got)
	}
	if len(f.keys) != len(want) {
		t.Errorf("asked %+v", f.keys)
	}
}

// keygen's standard output is the key file, whoever watches.
func TestKeygen(t *testing.T) {
	seen := map[string]bool{}
	for _, terminal := range []bool{false, true} {
		got := invoke(t, &fakeClient{err: errNotRunning}, func(s *Stdio) { s.Terminal, s.ErrTerminal = terminal, terminal },
			"keygen")
		key, ok := strings.CutSuffix(got.out, "\n")
		if b, err := base64.StdEncoding.DecodeString(key); !ok || err != nil || len(b) != 32 || got.code != ExitOK ||
			seen[key] {
			t.Errorf("%+v", got)
		}
		seen[key] = true
		if hinted := strings.Contains(got.err, "cluster.key_file"); hinted != terminal || strings.Contains(got.err, key) {
			t.Errorf("on a terminal %t: %q", terminal, got.err)
		}
	}
}

// Colours change no alignment, whatever is marked.
func TestClusterColours(t *testing.T) {
	for _, k := range []clusterKind{healthy, unsettled, minority} {
		for _, command := range []string{"status", "members"} {
			f := &fakeClient{cluster: k}
			coloured := invoke(t, f, func(s *Stdio) { s.Terminal = true }, command)
			plain := invoke(t, f, func(s *Stdio) { s.Terminal, s.Env = true, []string{"NO_COLOR=1"} }, command)
			if ansi.Strip(coloured.out) != plain.out || coloured.out == plain.out {
				t.Errorf("%s: %s\n%s", command, coloured.out, plain.out)
			}
		}
	}
}

func TestCheckPeer(t *testing.T) {
	for s, ok := range map[string]bool{"beta": true, "beta:1": true, "10.0.0.1": true, "::1": true, "[::1]:7946": true,
		"[fe80::1%eth0]:1": true, "": false, ":1": false,
		"beta:": false, "beta:0": false, "beta:65536": false, "beta:x": false, "a b": false, "a/b": false, "a:1:2": false,
		"\u202eb": false, strings.Repeat("a", 300): false} {
		if err := checkPeer(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
