package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// wellCluster is one of five nodes in which all is well.
func wellCluster() (api.Members, api.Keys) {
	yes, no := true, 0.0
	m := api.Members{Self: "0", Ring: "aa", Majority: true, Expected: 5, Encrypted: true}
	for i, name := range []string{"alpha", "beta", "gamma", "delta", "epsilon"} {
		m.Members = append(m.Members, api.MemberView{ID: string(rune('0' + i)), Name: name, Address: name + ":7946",
			Relay: name + ":7947", State: "participant", Status: "alive",
			Version: "1.0", Ring: "aa", Self: i == 0, Majority: &yes, ClockSkew: &no, Attestation: "quorum",
			Timing: "fast", Since: time.Unix(1000, 0)})
	}
	return m, api.Keys{Keys: []api.KeyView{{Fingerprint: "0a1b", Primary: true, Senders: 5, Nodes: 5, Of: 5}}}
}

// TestDoctorOfACluster: each trouble is one finding that names the node and says what to
// do, and nothing else is found; what nobody said is no trouble.
func TestDoctorOfACluster(t *testing.T) {
	num := func(f float64) *float64 { return &f }
	no := false
	for _, c := range []struct {
		name  string
		do    func(*api.Members, *api.Keys)
		check string // the one that fails; "": none
		says  []string
	}{
		{"well", func(*api.Members, *api.Keys) {}, "", nil},
		{"older nodes say little", func(m *api.Members, _ *api.Keys) {
			for i := 1; i < 5; i++ {
				v := &m.Members[i]
				v.Majority, v.ClockSkew, v.Attestation, v.Timing = nil, nil, "", ""
			}
		}, "", nil},
		{"one is down", func(m *api.Members, k *api.Keys) { m.Members[2].Status, k.Keys[0].Nodes = "failed", 4 },
			"cluster members", []string{"gamma is down since 1970-01-01 00:16:40 UTC"}},
		{"one waits", func(m *api.Members, _ *api.Keys) {
			m.Members[0].State, m.Members[0].Note = "waiting", "its disk is full"
		}, "cluster members", []string{"alpha waits", "its disk is full"}},
		{"one waits and plans", func(m *api.Members, _ *api.Keys) {
			m.Members[0].State, m.Members[0].Owns, m.Members[0].Note = "waiting", 2, "no majority"
		}, "cluster members", []string{"alpha waits, and plans for services meanwhile (2): no majority"}},
		{"no majority there", func(m *api.Members, _ *api.Keys) { m.Members[3].Majority = &no }, "cluster majority",
			[]string{"of 5 nodes", "delta sees no majority"}},
		{"no majority here", func(m *api.Members, _ *api.Keys) { m.Majority = false }, "cluster majority", []string{"alpha"}},
		{"another ring", func(m *api.Members, _ *api.Keys) { m.Members[1].Ring = "bb" }, "cluster rings",
			[]string{"beta has ring bb"}},
		{"a key is missing", func(_ *api.Members, k *api.Keys) { k.Keys[0].Nodes = 4 }, "cluster keys",
			[]string{"4 of 5 nodes hold the key 0a1b"}},
		{"two keys send", func(_ *api.Members, k *api.Keys) {
			k.Keys = append(k.Keys, api.KeyView{Fingerprint: "2c3d", Senders: 1, Nodes: 5, Of: 5})
		}, "cluster keys", []string{"not all send"}},
		{"calls fail", func(m *api.Members, _ *api.Keys) {
			m.Members[1].Error = "cannot call node 0123abcd: connection refused"
		}, "cluster calls", []string{"beta does not answer calls at beta:7947: connection refused"}},
		{"a clock is ahead", func(m *api.Members, _ *api.Keys) { m.Members[1].ClockSkew = num(90.2) }, "cluster clocks",
			[]string{"beta is 1m30s ahead"}},
		{"a clock is behind", func(m *api.Members, _ *api.Keys) { m.Members[1].ClockSkew = num(-3) }, "cluster clocks",
			[]string{"beta is 3s behind"}},
		{"clocks are near", func(m *api.Members, _ *api.Keys) { m.Members[1].ClockSkew = num(1.9) }, "", nil},
		{"versions differ", func(m *api.Members, _ *api.Keys) { m.Members[3].Version = "1.1" }, "cluster versions",
			[]string{"here is 1.0", "delta has 1.1"}},
		{"a name twice", func(m *api.Members, _ *api.Keys) { m.Members[3].Name = "beta" }, "cluster names",
			[]string{"beta at beta:7946", "beta at delta:7946"}},
		{"a name was refused", func(m *api.Members, k *api.Keys) {
			m.Members = append(m.Members, api.MemberView{Name: "beta", Address: "x:7946", Status: "refused"})
		}, "cluster names", []string{"beta at x:7946 was refused"}},
		{"timing differs", func(m *api.Members, _ *api.Keys) { m.Members[1].Timing = "wan" }, "cluster settings",
			[]string{"cluster.timing here is fast", "beta has wan"}},
		{"attestation differs", func(m *api.Members, _ *api.Keys) { m.Members[1].Attestation = "off" }, "cluster settings",
			[]string{"cluster.attestation here is quorum", "beta has off"}},
		{"too few owners", func(m *api.Members, k *api.Keys) {
			m.Members, m.Expected, k.Keys[0].Nodes, k.Keys[0].Of = m.Members[:3], 3, 3, 3
		}, "attestation", []string{"needs 4 owners, and 3"}},
		{"unreachable here", func(m *api.Members, _ *api.Keys) { m.Problems = []string{"other nodes cannot reach this one"} },
			"cluster problem", []string{"cannot reach"}},
	} {
		m, k := wellCluster()
		c.do(&m, &k)
		var failed []string
		for _, got := range Cluster(m, k, true) {
			if got.OK {
				if got.Detail == "" {
					t.Errorf("%s: %s is fine, and says nothing", c.name, got.Name)
				}
				continue
			}
			failed = append(failed, got.Name)
			for _, words := range c.says {
				if !strings.Contains(got.Detail, words) {
					t.Errorf("%s: %q does not say %q", c.name, got.Detail, words)
				}
			}
			if got.Severity != "warning" || got.Remedy == "" && got.Name != "cluster problem" {
				t.Errorf("%s: %+v", c.name, got)
			}
		}
		if strings.Join(failed, ", ") != c.check {
			t.Errorf("%s: %q failed", c.name, failed)
		}
	}
}

// TestDoctorOfANodeAlone: it is fine where it looks for nobody.
func TestDoctorOfANodeAlone(t *testing.T) {
	m := api.Members{Ring: "aa", Majority: true, Expected: 1,
		Members: []api.MemberView{{Name: "alpha", Status: "alive", State: "participant", Self: true, Attestation: "off"}}}
	for _, looks := range []bool{false, true} {
		got := Cluster(m, api.Keys{}, looks)
		if len(got) != 1 || got[0].OK == looks || looks && !strings.Contains(got[0].Remedy, "effiscale join") {
			t.Errorf("looks %t: %+v", looks, got)
		}
	}
}

// TestDoctorOfANodeThatLeft: it is said that it left, not that it finds nobody.
func TestDoctorOfANodeThatLeft(t *testing.T) {
	m := api.Members{Ring: "aa", Majority: true, Expected: 1,
		Members: []api.MemberView{{Name: "alpha", Status: "left", State: "leaving", Self: true, Attestation: "off"}}}
	got := Cluster(m, api.Keys{}, true)
	if len(got) != 1 || got[0].OK || !strings.Contains(got[0].Remedy, "restart the daemon") {
		t.Errorf("%+v", got)
	}
}
