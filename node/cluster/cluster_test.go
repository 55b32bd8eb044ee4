package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/trust"
	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

const web, replica = knowledge.ServiceKey("web"), knowledge.ContainerID("c1")

// rich is what is in force on every host: more than a year of little use asks for.
var rich = knowledge.Envelope{
	CPU: knowledge.Range[knowledge.NanoCPU]{Min: 2 * knowledge.OneCPU, Max: 4 * knowledge.OneCPU}, ThrottleTarget: 0.06,
	Memory: 2 * knowledge.GiB, MemoryFloor: knowledge.GiB, MemoryCeiling: 8 * knowledge.GiB,
}

// fakeHost applies what it gets, and remembers it.
type fakeHost struct {
	c      *Cluster
	mu     sync.Mutex
	obeyed []knowledge.Intent
}

func (h *fakeHost) ApplyIntents(_ context.Context, intents []knowledge.Intent) (mape.IntentResult, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.obeyed = append(h.obeyed, intents...)
	return mape.IntentResult{}, nil
}

func (h *fakeHost) Envelopes(context.Context, knowledge.ServiceKey) (map[knowledge.ContainerID]knowledge.Envelope,
	error) {
	return map[knowledge.ContainerID]knowledge.Envelope{replica: rich}, nil
}
func (h *fakeHost) ReportSoon(context.Context) error                     { return nil }
func (h *fakeHost) ImageDigests(context.Context) ([]image.Digest, error) { return nil, nil }
func (h *fakeHost) ImageCopies(context.Context, []image.Digest, int) ([]image.Copy, error) {
	return nil, nil
}
func (h *fakeHost) MergeImages(context.Context, []image.Copy) (int, error) { return 0, nil }

// newest is what the host obeys for its replica.
func (h *fakeHost) newest() (e knowledge.Envelope, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range h.obeyed {
		for _, a := range in.Envelopes {
			e, ok = a.Envelope, true
		}
	}
	return e, ok
}

// said is what one intent of the owner became here.
func (h *fakeHost) applied(seq uint64) (e knowledge.Envelope, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range h.obeyed {
		if in.Seq == seq && len(in.Envelopes) > 0 {
			e, ok = in.Envelopes[0].Envelope, true
		}
	}
	return e, ok
}

func (h *fakeHost) report() plan.Report {
	return plan.Report{Service: web, Host: h.c.self, CPUs: 4, Memory: 8 * knowledge.GiB, Replicas: []plan.Reported{{
		ID: replica, Envelope: rich, Stood: 365 * 24 * time.Hour,
		Policy: knowledge.Policy{Managed: true, Mode: knowledge.ModeAuto, ThrottleTarget: 0.06, CPUPercentile: 0.95,
			MemoryPercentile: 0.98},
		Facts: plan.Facts{ObservedFor: 365 * 24 * time.Hour, CPU: knowledge.OneCPU / 10, CPUMax: knowledge.OneCPU / 5,
			MemoryNeed: 100 * knowledge.MiB, MemoryPeak: 110 * knowledge.MiB},
		Quota: 2 * knowledge.OneCPU, Limit: 2 * knowledge.GiB, WorkingSet: 100 * knowledge.MiB,
	}}}
}

// noDisk keeps nothing: no node restarts here.
type noDisk struct{}

func (noDisk) SaveTerms(map[knowledge.ServiceKey]knowledge.Term) error { return nil }
func (noDisk) SaveMembers(Membership) error                            { return nil }

// inCluster runs test in a settled cluster of n nodes with attestation, all of which
// run a replica of web, in virtual time.
func inCluster(t *testing.T, n int, test func(t *testing.T, hosts []*fakeHost)) {
	inClusterWith(t, n, nil, test)
}

// inClusterWith is inCluster where change may alter the options of each node.
func inClusterWith(t *testing.T, n int, change func(*Options), test func(t *testing.T, hosts []*fakeHost)) {
	synctest.Test(t, func(t *testing.T) {
		nw := simnet.New(1)
		ctx, stop := context.WithCancel(t.Context())
		var hosts []*fakeHost
		var runs sync.WaitGroup
		for i := range n {
			h := join(t, nw, i, change)
			hosts = append(hosts, h)
			runs.Go(func() { h.c.Run(ctx) })
		}
		time.Sleep(10 * time.Second)
		test(t, hosts)
		stop()
		runs.Wait()
		for _, h := range hosts {
			_ = h.c.Close()
		}
		nw.Close()
		time.Sleep(time.Minute) // memberlist's last probes
	})
}

// join starts the i-th node, which attests cuts and looks for the first one, unless
// change alters it.
func join(t *testing.T, nw *simnet.Net, i int, change func(*Options)) *fakeHost {
	t.Helper()
	ip := fmt.Sprintf("10.0.0.%d", i+1)
	at := nw.Host(ip)
	tr, err := at.Bind(7946)
	if err != nil {
		t.Fatal(err)
	}
	l, err := at.Listen(7947)
	if err != nil {
		t.Fatal(err)
	}
	id, err := trust.NewIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{}
	o := Options{
		Identity: id, Epoch: 1, Meta: member.Meta{Name: fmt.Sprintf("n%d", i+1), Cores: 4 * knowledge.OneCPU,
			Memory: 8 * knowledge.GiB},
		Member: member.Options{Cluster: "sim", Bind: net.JoinHostPort(ip, "7946"), Transport: tr,
			Join: []string{"10.0.0.1:7946"}},
		Listener: l, Dial: at.Dial, Keeper: noDisk{}, Attest: true, Log: zerolog.Nop(),
	}
	if change != nil {
		change(&o)
	}
	if h.c, err = New(o, h); err != nil {
		t.Fatal(err)
	}
	return h
}

// ownerOf is the owner of web, and another host.
func ownerOf(hosts []*fakeHost) (owner, other *fakeHost) {
	for _, h := range hosts {
		if h.c.View().Ring.Owner(web) == h.c.self {
			owner = h
		} else {
			other = h
		}
	}
	return owner, other
}

// third is a host that is neither of two.
func third(hosts []*fakeHost, a, b *fakeHost) *fakeHost {
	i := slices.IndexFunc(hosts, func(h *fakeHost) bool { return h != a && h != b })
	return hosts[i]
}

func reportAll(hosts []*fakeHost) {
	for _, h := range hosts {
		h.c.Report([]plan.Report{h.report()})
	}
	time.Sleep(3 * time.Second)
}

// TestAttestedCuts: what four owners agree to is cut, on every host.
func TestAttestedCuts(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		// A cut waits until its voters have the evidence as well.
		done := func(h *fakeHost) bool {
			e, ok := h.newest()
			return ok && e.Memory < rich.Memory && e.Memory >= 100*knowledge.MiB
		}
		for range 6 {
			reportAll(hosts)
		}
		for _, h := range hosts {
			if !done(h) {
				e, ok := h.newest()
				t.Errorf("%s obeys %s of memory, %v: want less than %s; %d cuts left out", h.c.o.Meta.Name, e.Memory, ok, rich.Memory, h.c.Uncertified())
			}
		}
	})
}

// TestALyingOwnerCutsNothing: an owner that declares less than the evidence of the
// others asks for finds no vote, and the host leaves its cut out.
func TestALyingOwnerCutsNothing(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		liar, victim := ownerOf(hosts)
		lie := rich
		lie.Memory, lie.MemoryFloor, lie.CPU.Max = 8*knowledge.MiB, knowledge.MiB, knowledge.OneCPU/100
		before, sent := victim.c.Uncertified(), uint64(0)
		err := liar.c.do(t.Context(), func() {
			held, ok := liar.c.claims.Get(web)
			if !ok {
				t.Error("the owner has no claim")
				return
			}
			s := liar.c.owner.services[web]
			s.seq++
			sent = s.seq
			liar.c.attestation.certify(s, Declared{Intent: knowledge.Intent{Service: web, Host: victim.c.self, Term: held.Term,
				Seq:       s.seq,
				Envelopes: []knowledge.Assigned{{ID: replica, Envelope: lie}}}})
		})
		if err != nil {
			t.Fatal(err)
		}
		var e knowledge.Envelope
		ok := false
		for range 15 { // what waits behind a call that failed comes within seconds
			time.Sleep(time.Second)
			if e, ok = victim.applied(sent); ok {
				break
			}
		}
		if !ok || e.Memory < rich.Memory || e.MemoryFloor < rich.MemoryFloor || e.CPU.Max < rich.CPU.Max {
			t.Errorf("the host obeys %s of memory, %s cores", e.Memory, e.CPU.Max)
		}
		if victim.c.Uncertified() == before {
			t.Error("nothing is counted")
		}
	})
}

// TestRow22LiesAreRefused: messages for others, of others, of old terms and without
// sense are refused and not applied.
func TestRow22LiesAreRefused(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		owner, victim := ownerOf(hosts)
		liar := third(hosts, owner, victim)
		term := victim.c.View().Terms[web]
		send := func(kind string, sealedAs string, v any) error {
			b, err := liar.c.seal(sealedAs, victim.c.self, v)
			if err != nil {
				t.Fatal(err)
			}
			_, err = liar.c.relay.Call(t.Context(), victim.c.self, kind, b)
			return err
		}
		intent := func(host, by knowledge.NodeID, round uint64, key knowledge.ServiceKey) []Declared {
			return []Declared{{Intent: knowledge.Intent{Service: key, Host: host,
				Term: knowledge.Term{Round: round, Owner: by}, Seq: 1 << 40,
				Envelopes: []knowledge.Assigned{{ID: replica, Envelope: knowledge.Envelope{Memory: 1}}}}}}
		}
		victim.mu.Lock()
		victim.obeyed = nil
		victim.mu.Unlock()
		for _, lie := range []struct {
			what, kind, sealed, want string
			v                        any
		}{
			{"in the owner's name", "intents", "intents", "another node's term",
				intent(victim.c.self, owner.c.self, term.Round+1, web)},
			{"for another host", "intents", "intents", "another host", intent(owner.c.self, liar.c.self, term.Round+1, web)},
			{"no name", "intents", "intents", "without a name", intent(victim.c.self, liar.c.self, term.Round+1, "\x00")},
			{"a report as an intent", "intents", "reports", "", intent(victim.c.self, liar.c.self, term.Round+1, web)},
			{"too many", "intents", "intents", "at most", make([]Declared, batchMost+1)},
		} {
			if err := send(lie.kind, lie.sealed, lie.v); err == nil || !strings.Contains(err.Error(), lie.want) {
				t.Errorf("%s: %v, want %q", lie.what, err, lie.want)
			}
		}
		if err := send("intents", "intents", intent(victim.c.self, liar.c.self, term.Round-1, web)); err != nil {
			t.Errorf("an old term is answered with the newer one: %v", err)
		}
		// The same bytes a second time.
		b, err := liar.c.seal("intents", victim.c.self, intent(victim.c.self, liar.c.self, term.Round-1, web))
		if err != nil {
			t.Fatal(err)
		}
		_, first := liar.c.relay.Call(t.Context(), victim.c.self, "intents", b)
		_, second := liar.c.relay.Call(t.Context(), victim.c.self, "intents", b)
		if first != nil || second == nil {
			t.Errorf("once %v, and again %v", first, second)
		}
		r := liar.report()
		r.Host = owner.c.self
		nonsense := liar.report()
		nonsense.Replicas[0].Facts.CPU = 400 * knowledge.OneCPU
		bigger := liar.report()
		bigger.CPUs = 4000
		before := victim.c.View().Counts.ReportsRefused
		for _, r := range []plan.Report{r, nonsense, bigger} {
			_ = send("reports", "reports", []plan.Report{r})
		}
		time.Sleep(time.Second)
		if n := victim.c.View().Counts.ReportsRefused - before; n != 3 {
			t.Errorf("%d of 3 reports without sense are counted", n)
		}
		if n := victim.c.View().Counts.IntentsRefused; n < 2 {
			t.Errorf("%d intents of an old term are counted", n)
		}
		victim.mu.Lock()
		defer victim.mu.Unlock()
		for _, in := range victim.obeyed {
			if in.Term.Owner != owner.c.self {
				t.Errorf("the host obeys %+v", in)
			}
		}
	})
}

// TestLeave: a node that left plans for its own host alone, and the others go on
// without it.
func TestLeave(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		gone := hosts[2]
		if err := gone.c.Leave(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		reportAll(hosts)
		for _, h := range hosts {
			v := h.c.View()
			if term := v.Terms[web]; h == gone && term.Owner != h.c.self || h != gone && term.Owner == gone.c.self {
				t.Errorf("%s obeys %v, %d claims, %+v", h.c.o.Meta.Name, term, v.Claims, v.Counts)
			}
			if want := map[bool]int{true: 1, false: 3}[h == gone]; v.Ring.Len() != want || !v.Majority || v.Expected != want {
				t.Errorf("%s: a ring of %d, majority %v of %d, want %d", h.c.o.Meta.Name, v.Ring.Len(), v.Majority, v.Expected,
					want)
			}
		}
	})
}

// TestToldWhenInSight: a host whose report came before its owner saw it is told as soon
// as it is seen, not at its next report.
func TestToldWhenInSight(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		owner, early := ownerOf(hosts)
		intents := func() int {
			early.mu.Lock()
			defer early.mu.Unlock()
			return len(early.obeyed)
		}
		before := intents()
		if before == 0 {
			t.Fatal("nothing was declared for the host in sight")
		}
		err := owner.c.do(t.Context(), func() {
			s := owner.c.owner.services[web]
			s.reports[early.c.self].planned = knowledge.Term{} // it reported since
			s.dirty = true
			owner.c.liveness.visible = slices.DeleteFunc(slices.Clone(owner.c.liveness.visible),
				func(id knowledge.NodeID) bool { return id == early.c.self })
			owner.c.owner.planDue(owner.c.o.Now())
			if s.dirty || s.reports[early.c.self].planned != (knowledge.Term{}) {
				t.Error("planned for a host out of sight")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if intents() == before {
			t.Error("the host is in sight again and got no intent")
		}
	})
}

// TestALieThatLeavesNoTermAbove: a member that declares the highest round there is,
// or for services that do not run here, is refused, and its lies are on no disk.
func TestALieThatLeavesNoTermAbove(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		owner, victim := ownerOf(hosts)
		liar := third(hosts, owner, victim)
		for _, key := range []knowledge.ServiceKey{web, "invented"} {
			b, err := liar.c.seal("intents", victim.c.self,
				[]Declared{{Intent: knowledge.Intent{Service: key, Host: victim.c.self,
					Term: knowledge.Term{Round: math.MaxUint64, Owner: liar.c.self}, Seq: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = liar.c.relay.Call(t.Context(), victim.c.self, "intents", b); err != nil {
				t.Fatal(err)
			}
			if term := victim.c.terms.Highest(key); term.Round > 100 {
				t.Errorf("%s: the host has seen %v", key, term)
			}
		}
		reportAll(hosts)
		if held, ok := owner.c.claims.Get(web); !ok || victim.c.View().Terms[web] != held.Term {
			t.Errorf("the host obeys %v, the owner holds %v, %v", victim.c.View().Terms[web], held, ok)
		}
	})
}

// TestALyingHostFillsNothing: reports without sense make no service, and a host that
// reports very many services crowds out no other.
func TestALyingHostFillsNothing(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		liar, victim := hosts[1], hosts[2]
		err := victim.c.do(t.Context(), func() {
			now := victim.c.o.Now()
			for i := range 3 * perHostMost {
				r := liar.report()
				r.Service, r.Version = knowledge.ServiceKey(fmt.Sprintf("s%d", i)), knowledge.Version{Epoch: 1, Seq: uint64(i + 1)}
				if err := victim.c.owner.takeReport(now, liar.c.self, &r); (err == nil) != (i < perHostMost) {
					t.Errorf("service %d: %v", i, err)
				}
			}
			r := liar.report()
			r.Service = knowledge.ServiceKey(strings.Repeat("\x01", 1<<14))
			if err := victim.c.owner.takeReport(now, liar.c.self, &r); err == nil {
				t.Error("a service without a name")
			}
			if n := len(victim.c.owner.services); n != perHostMost {
				t.Errorf("%d services, want %d", n, perHostMost)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestRow49AloneWithoutADisk: a node that has no others plans for its host although
// no term can be written down.
func TestRow49AloneWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := simnet.New(1)
		h := join(t, nw, 0, func(o *Options) { o.Keeper, o.Member.Join = full{}, nil })
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { h.c.Run(ctx) })
		reportAll([]*fakeHost{h})
		reportAll([]*fakeHost{h})
		if _, ok := h.newest(); !ok {
			t.Errorf("no plan: %+v", h.c.View().Counts)
		}
		stop()
		run.Wait()
		_ = h.c.Close()
		nw.Close()
		time.Sleep(time.Minute)
	})
}

// full is a disk that takes nothing.
type full struct{ noDisk }

func (full) SaveTerms(map[knowledge.ServiceKey]knowledge.Term) error {
	return errors.New("no space left on device")
}
