package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

const (
	// historyWithin bounds the question for the history of all hosts.
	historyWithin = 8 * time.Second
	// changeMost bounds one change that a host tells of; most have 600 bytes.
	changeMost = 64 << 10
)

// pastQuery asks a host what was done to a container or a service there.
type pastQuery struct {
	Name  string `json:"name"`
	Limit int    `json:"limit"`
}

// streamHistory writes what was done here, newest first, one change after the other.
func (n *Node) streamHistory(ctx context.Context, _ knowledge.NodeID, body []byte, w io.Writer) error {
	var q pastQuery
	if err := json.Unmarshal(body, &q); err != nil || q.Limit < 1 || q.Name == "" {
		return &relay.Error{Status: http.StatusBadRequest, Text: "a name and a limit are asked for"}
	}
	h, err := n.localRecords(ctx, q.Name, q.Limit)
	if err != nil {
		return forPeer(err)
	}
	buffered := bufio.NewWriterSize(w, 32<<10)
	to := json.NewEncoder(buffered)
	for i := range h.Changes {
		if err := to.Encode(&h.Changes[i]); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// past is one host's history as it comes in. Only its next change is in memory.
type past struct {
	host   string
	local  []api.Change // of this host; else from
	stream io.ReadCloser
	from   *bufio.Scanner // a change a line
	next   *api.Change    // nil: no more
	err    error          // why there is none
}

// advance reads the next change.
func (p *past) advance() {
	p.next = nil
	if p.from == nil {
		if len(p.local) > 0 {
			p.next, p.local = &p.local[0], p.local[1:]
		}
		return
	}
	if !p.from.Scan() {
		p.err = p.from.Err()
		return
	}
	var c api.Change
	if p.err = json.Unmarshal(p.from.Bytes(), &c); p.err == nil {
		c.Host = p.host
		p.next = &c
	}
}

// pastOf reads what a host tells.
func pastOf(host string, s io.ReadCloser) *past {
	p := &past{host: host, stream: s, from: bufio.NewScanner(s)}
	p.from.Buffer(nil, changeMost)
	return p
}

// Records is the history of a container or a service on all hosts, newest first by
// their own clocks.
func (n *Node) Records(ctx context.Context, name string, limit int) (api.History, error) {
	limit = min(limit, recordsMost)
	at, err := n.locate(name)
	if err != nil {
		return api.History{}, err
	}
	h := api.History{Schema: api.Schema, Name: name, Changes: []api.Change{}}
	if at.here {
		if h, err = n.localRecords(ctx, at.name, limit); n.cluster == nil || at.host != "" || err != nil && at.last(err) {
			return h, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, historyWithin)
	defer cancel()
	pasts := n.openPasts(ctx, at, limit)
	defer func() {
		for _, p := range pasts {
			_ = p.stream.Close()
		}
	}()
	if len(pasts) == 0 && (err != nil || !at.here) {
		_, err = n.only(at)
		return h, err
	}
	if len(pasts) > 0 {
		for i := range h.Changes {
			h.Changes[i].Host = n.identity.Name
		}
	}
	h.Changes = merge(append(pasts, &past{local: h.Changes}), limit)
	for _, host := range n.silent(at) {
		h.Notes = append(h.Notes, "what was done on "+host+" is missing: it cannot be asked")
	}
	for _, p := range pasts {
		if p.err != nil {
			h.Notes = append(h.Notes, fmt.Sprintf("what was done on %s is not complete: %v", p.host, p.err))
		}
	}
	return h, nil
}

// openPasts asks all others at once; those that know of nothing are not among pasts.
func (n *Node) openPasts(ctx context.Context, at spot, limit int) (pasts []*past) {
	body, err := json.Marshal(pastQuery{at.name, limit})
	if err != nil {
		return nil
	}
	answers := at.there
	streams := make([]io.ReadCloser, len(answers))
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			streams[i], answers[i].err = n.cluster.Relay().Stream(ctx, answers[i].peer.ID, "history", body)
		})
	}
	all.Wait()
	for i, s := range streams {
		if s != nil {
			pasts = append(pasts, pastOf(nameOr(answers[i].peer), s))
		}
	}
	return pasts
}

// merge takes the newest change of any host, again and again: of what the hosts have
// to say only this much is read.
func merge(pasts []*past, limit int) []api.Change {
	out := []api.Change{}
	for _, p := range pasts {
		p.advance()
	}
	for len(out) < limit {
		var newest *past
		for _, p := range pasts {
			if p.next != nil && (newest == nil || p.next.At.After(newest.next.At)) {
				newest = p
			}
		}
		if newest == nil {
			break
		}
		out = append(out, *newest.next)
		newest.advance()
	}
	return out
}
