package cluster

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/claim"
)

// TestLiesBelowALeap: a member declares terms so far up that its victim just takes them,
// once and again. The owner comes above it, and the hosts that were not lied to follow.
func TestLiesBelowALeap(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*believer) {
		reportAll(hosts)
		owner, victim := ownerOf(hosts)
		liar := third(hosts, owner, victim)
		for range 3 {
			round := victim.c.terms.Highest(web).Round + 1<<32
			b, err := liar.c.seal("intents", victim.c.self, []Declared{{Intent: knowledge.Intent{Service: web, Host: victim.c.self,
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
		held, ok := owner.c.book.Held(web)
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
	inCluster(t, 4, func(t *testing.T, hosts []*believer) {
		reportAll(hosts)
		owner, _ := ownerOf(hosts)
		c := owner.c
		err := c.do(t.Context(), func() {
			now := c.o.Now()
			c.book.End(web, claim.ErrMoved)
			c.takeDue(now)
			if !c.services[web].taking {
				t.Error("it does not ask")
			}
			c.thaw(now, 3*time.Second)
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(settleFor / 2)
		if held, ok := c.book.Held(web); ok {
			t.Errorf("it holds %v, and has not looked around", held.Term)
		}
		time.Sleep(30 * time.Second)
		reportAll(hosts)
		owner, other := ownerOf(hosts)
		if held, ok := owner.c.book.Held(web); !ok || other.c.View().Terms[web] != held.Term {
			t.Errorf("30 s later the host obeys %v, the owner holds %+v", other.c.View().Terms[web], held)
		}
	})
}
