package cluster

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/claim"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// TestLiesBelowALeap: a member declares terms so far up that its victim just takes them,
// once and again. The owner comes above it, and the hosts that were not lied to follow.
func TestLiesBelowALeap(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		owner, victim := ownerOf(hosts)
		liar := third(hosts, owner, victim)
		for range 3 {
			round := victim.c.terms.Highest(web).Round + 1<<32
			b, err := liar.c.seal("intents", victim.c.self,
				[]Declared{{Intent: knowledge.Intent{Service: web, Host: victim.c.self,
					Term: knowledge.Term{Round: round, Owner: liar.c.self}, Seq: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = liar.c.relay.Call(t.Context(), victim.c.self, "intents", b); err != nil {
				t.Fatal(err)
			}
			if seen := victim.c.terms.Highest(web); seen.Round != round {
				t.Fatalf("the victim has seen %v: a lie of round %d is none any more", seen, round)
			}
		}
		for range 12 {
			reportAll(hosts)
			time.Sleep(7 * time.Second)
		}
		held, ok := owner.c.claims.Get(web)
		for _, h := range hosts {
			if term := h.c.View().Terms[web]; !ok || term != held.Term {
				t.Errorf("two minutes after the last lie %s obeys %v, and the owner holds %+v", h.c.o.Meta.Name, term, held)
			}
		}
	})
}

// TestFrozenWhileItAsks (row 6): a node that stood still between its question for the
// highest term and the claim takes nothing over before it has looked around.
func TestFrozenWhileItAsks(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		owner, _ := ownerOf(hosts)
		c := owner.c
		err := c.do(t.Context(), func() {
			now := c.o.Now()
			c.claims.End(web, claim.ErrMoved)
			c.owner.takeDue(now)
			if !c.owner.services[web].taking {
				t.Error("it does not ask")
			}
			c.stalled(now, 3*time.Second)
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(settleFor / 2)
		if held, ok := c.claims.Get(web); ok {
			t.Errorf("it holds %v, and has not looked around", held.Term)
		}
		time.Sleep(30 * time.Second)
		reportAll(hosts)
		owner, other := ownerOf(hosts)
		if held, ok := owner.c.claims.Get(web); !ok || other.c.View().Terms[web] != held.Term {
			t.Errorf("30 s later the host obeys %v, the owner holds %+v", other.c.View().Terms[web], held)
		}
	})
}

// TestGivenUpIsNotHeard: a node whose key was taken away, while its calls come through, is
// a member for a minute more. After that its messages are refused, its services are others',
// and it is a member again at once when it has the key and calls.
func TestGivenUpIsNotHeard(t *testing.T) {
	old, fresh := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	keyed := func(o *Options) { o.Member.Keys = [][]byte{old} }
	inClusterWith(t, 4, keyed, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		outcast, other := ownerOf(hosts)
		call := func(method string, v any) error {
			b, err := outcast.c.seal(strings.Replace(method, "votes", "vote", 1), other.c.self, v)
			if err != nil {
				t.Fatal(err)
			}
			_, err = outcast.c.relay.Call(t.Context(), other.c.self, method, b)
			return err
		}
		calls := func() (errs []error) {
			return []error{call("reports", []plan.Report{outcast.report()}), call("intents", []Declared{}),
				call("votes", knowledge.Intent{})}
		}
		calls()
		others := slices.DeleteFunc(slices.Clone(hosts), func(h *fakeHost) bool { return h == outcast })
		for _, do := range []func(*member.Members) error{
			func(m *member.Members) error { return m.AddKey(fresh) },
			func(m *member.Members) error { return m.UseKey(fresh) },
			func(m *member.Members) error { return m.RemoveKey(old) },
		} {
			for _, h := range others {
				if err := do(h.c.members); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(30 * time.Second)
		if p, _ := other.c.members.Peer(outcast.c.self); p.Alive {
			t.Fatal("gossip has it")
		}
		for _, err := range calls()[:2] {
			if err != nil {
				t.Errorf("gossip lost it half a minute ago: %v", err)
			}
		}
		time.Sleep(time.Minute)
		said := new(relay.Error)
		for _, err := range calls() {
			if !errors.As(err, &said) || said.Status != http.StatusForbidden {
				t.Errorf("gossip lost it long ago: %v", err)
			}
		}
		reportAll(others)
		if owner, _ := ownerOf(others); owner == nil {
			t.Errorf("none of the others owns its service; on %s the ring has %d nodes", other.c.o.Meta.Name, other.c.View().Ring.Len())
		}

		if err := errors.Join(outcast.c.members.AddKey(fresh), outcast.c.members.UseKey(fresh)); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		for calls()[0] != nil && time.Since(begun) < 10*time.Second {
			time.Sleep(resendFirst)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("it is accepted again only after %v", took)
		}
	})
}

// TestWarnedOfOnce: a peer that sends invalid data all the time is logged once a minute, and
// many that do are bounded.
func TestWarnedOfOnce(t *testing.T) {
	c, now := &owner{warned: map[knowledge.NodeID]time.Time{}}, time.Now()
	if !c.mayWarn(now, "a") || c.mayWarn(now.Add(warnEvery-1), "a") || !c.mayWarn(now.Add(warnEvery), "a") {
		t.Error("not once a minute")
	}
	for i := range 2 * warnedMost {
		c.mayWarn(now, knowledge.NodeID(strconv.Itoa(i)))
	}
	if len(c.warned) != warnedMost {
		t.Errorf("%d are kept", len(c.warned))
	}
	if !c.mayWarn(now.Add(2*warnEvery), "b") || len(c.warned) != 1 {
		t.Errorf("%d are kept two minutes later", len(c.warned))
	}
}
