package ops

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

const (
	// reachFirst and reachEvery are when other nodes are asked whether they reach this
	// one: soon after it joined, and once a minute after that.
	reachFirst, reachEvery = 2 * time.Second, time.Minute
	// unreachedAfter is after how many rounds in a row, reachAgain apart, in which none
	// of those that answered could call this node it gives up what it owns: a lost packet
	// or two must move nothing. The first one that can call it ends that.
	unreachedAfter, reachAgain = 3, 10 * time.Second
	// reachAsked is how many are asked: one may be cut off itself.
	reachAsked = 3
	// reachWithin bounds each try, by a call and by gossip; they are made at once.
	reachWithin, reachAnswered = 3 * time.Second, 6 * time.Second
)

// Reach checks whether other nodes reach this one at the addresses that it advertises: from
// inside a wrong address looks like a right one.
type Reach struct {
	peers *peers
	log   zerolog.Logger
	why   atomic.Pointer[string] // other nodes do not reach this one; nil and "": they do
}

// reached is how another node reaches this one.
type reached struct {
	From   string `json:"from"`   // the host from which this node's call came
	Gossip string `json:"gossip"` // why gossip's address cannot be reached; "": it can
	Calls  string `json:"calls"`  // the same of the relay's
}

func (o *Reach) method() method[api.None, reached] {
	return method[api.None, reached]{name: "reach", here: o.here}
}

// here tries the addresses that the calling node advertises.
func (o *Reach) here(ctx context.Context, from knowledge.NodeID, _ api.None) (reached, error) {
	r := reached{From: hostOf(relay.RemoteAddr(ctx))}
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	var gossip sync.WaitGroup
	gossip.Go(func() {
		if err := o.peers.cluster.Members().Reach(from); err != nil {
			r.Gossip = err.Error()
		}
	})
	if err := o.peers.cluster.Relay().Alive(ctx, from); err != nil && !errors.As(err, new(*relay.Error)) {
		r.Calls = err.Error()
	}
	gossip.Wait()
	return r, nil
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// Trouble is why other nodes do not reach this one, "" if they do; checked: one answered.
func (o *Reach) Trouble() (why string, checked bool) {
	if p := o.why.Load(); p != nil {
		return *p, true
	}
	return "", false
}

// Watch asks other nodes until ctx ends.
func (o *Reach) Watch(ctx context.Context) {
	timer := time.NewTimer(reachFirst)
	defer timer.Stop()
	failed := 0 // rounds in a row
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		answered, called := o.round(ctx)
		next := reachEvery
		switch {
		case answered == 0:
			next = reachFirst // there was no other node yet
			if len(o.peers.live(1)) == 0 {
				o.peers.cluster.Reached(true) // no node is left that could call
			}
		case called > 0:
			failed = 0
			o.peers.cluster.Reached(true)
		default:
			next = reachAgain
			if failed++; failed >= unreachedAfter {
				o.peers.cluster.Reached(false)
			}
		}
		timer.Reset(next)
	}
}

// round asks a few nodes at once, others each time: how many answered, and how many of these
// can call this node.
func (o *Reach) round(ctx context.Context) (answered, called int) {
	asked := o.peers.live(peersAsked)
	rand.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
	asked = asked[:min(len(asked), reachAsked)]
	m := o.method()
	o.peers.ask(ctx, reachAnswered, asked, m.name, nil)
	var trouble []string
	var seen string
	for i := range asked {
		r, err := m.of(&asked[i])
		if err != nil {
			continue
		}
		answered++
		if r.Calls == "" {
			called++
		}
		if r.Gossip == "" && r.Calls == "" {
			continue
		}
		seen = r.From
		causes := strings.Trim(r.Gossip+", "+r.Calls, ", ")
		trouble = append(trouble, nameOr(asked[i].peer)+": "+causes)
	}
	if answered == 0 {
		return 0, 0
	}
	why := ""
	if len(trouble) == answered { // one that reaches it is enough: the address is right
		gossip, _ := o.peers.cluster.Addr()
		why = fmt.Sprintf("other nodes cannot reach this one at %s, which it advertises; its calls come to them from %s: "+
			"set cluster.advertise, and let TCP and UDP through (%s)", gossip, seen, trouble[0])
	}
	before, _ := o.Trouble()
	o.why.Store(&why)
	if why != "" && before == "" { // the first of the nodes differs each time
		o.log.Warn().Msg(why)
	}
	return answered, called
}
