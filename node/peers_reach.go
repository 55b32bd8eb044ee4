package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

const (
	// reachFirst and reachEvery are when others are asked whether they reach this
	// node: soon after it came, and once a minute after that.
	reachFirst, reachEvery = 2 * time.Second, time.Minute
	// unreachedAfter is after how many rounds in a row, reachAgain apart, in which none
	// of those that answered could call this node it gives up what it owns: a lost packet
	// or two must move nothing. The first one that can call it ends that.
	unreachedAfter, reachAgain = 3, 10 * time.Second
	// reachAsked is how many are: one may be cut off itself.
	reachAsked = 3
	// reachWithin bounds each try, by a call and by gossip; they are made at once.
	reachWithin, reachAnswered = 3 * time.Second, 6 * time.Second
)

// reached is what another node says of this one.
type reached struct {
	From   string `json:"from"`   // the host from which this node's call came
	Gossip string `json:"gossip"` // why gossip's address cannot be reached; "": it can
	Calls  string `json:"calls"`  // the same of the relay's
}

// reach tries the addresses that a node advertises, and answers it.
func (n *Node) reach(ctx context.Context, from knowledge.NodeID, _ []byte) ([]byte, error) {
	r := reached{From: hostOf(relay.RemoteAddr(ctx))}
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	var gossip sync.WaitGroup
	gossip.Go(func() {
		if err := n.cluster.Members().Reach(from); err != nil {
			r.Gossip = err.Error()
		}
	})
	if err := n.cluster.Relay().Alive(ctx, from); err != nil && !errors.As(err, new(*relay.Error)) {
		r.Calls = err.Error()
	}
	gossip.Wait()
	return json.Marshal(r)
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// watchReach asks again and again whether others reach this node where it says that
// it is: from inside a wrong address looks like a right one (row 23).
func (n *Node) watchReach(ctx context.Context) {
	timer := time.NewTimer(reachFirst)
	defer timer.Stop()
	shut := 0 // rounds in a row
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		answered, called := n.checkReach(ctx)
		next := reachEvery
		switch {
		case answered == 0:
			next = reachFirst // there was nobody yet
			if len(n.livePeers()) == 0 {
				n.cluster.Reached(true) // nobody is left who could call
			}
		case called > 0:
			shut = 0
			n.cluster.Reached(true)
		default:
			next = reachAgain
			if shut++; shut >= unreachedAfter {
				n.cluster.Reached(false)
			}
		}
		timer.Reset(next)
	}
}

// checkReach is one round: how many answered, and how many of these can call this node.
// Others are asked at once, and others each time: one that does not answer must not
// stand for all.
func (n *Node) checkReach(ctx context.Context) (answered, called int) {
	asked := n.livePeers()
	rand.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
	asked = asked[:min(len(asked), reachAsked)]
	n.ask(ctx, reachAnswered, asked, "reach", nil)
	trouble := []string{}
	var seen string
	for _, a := range asked {
		var r reached
		if a.err != nil || json.Unmarshal(a.body, &r) != nil {
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
		trouble = append(trouble, fmt.Sprintf("%s: %s", nameOr(a.peer), strings.Join(notEmpty(r.Gossip, r.Calls), ", ")))
	}
	if answered == 0 {
		return 0, 0
	}
	said := ""
	if len(trouble) == answered { // one that reaches it is enough: the address is right
		gossip, _ := n.cluster.Addr()
		said = fmt.Sprintf("other nodes cannot reach this one at %s, which it advertises; its calls come to them from %s: set cluster.advertise, and let TCP and UDP through (%s)",
			gossip, seen, trouble[0])
	}
	if old := n.reachTrouble.Swap(&said); said != "" && (old == nil || *old == "") { // who says it differs each time
		n.log.Warn().Msg(said)
	}
	return answered, called
}

func notEmpty(some ...string) (out []string) {
	for _, s := range some {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
