package ops

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/view"
)

const (
	// historyWithin bounds the question for the history of all hosts.
	historyWithin = 8 * time.Second
	// defaultRecords is the limit of a request without one.
	defaultRecords = 100
	// maxChange bounds one change that a host sends; most have 600 bytes.
	maxChange = 64 << 10
)

// records lists changes.
type records struct {
	host  *host
	peers *peers
}

// here is the history of a container, of a service, or without a name of all on this host,
// newest first.
func (o records) here(ctx context.Context, q api.RecordsRequest) (api.History, error) {
	h := api.History{Schema: api.Schema, Changes: []api.Change{}}
	f := store.Filter{Limit: min(q.Limit, api.MaxRecords)}
	unknown := false // no container has the name
	if q.Name != "" {
		name, err := o.host.canonical(ctx, q.Name)
		if err != nil {
			return api.History{}, err
		}
		h.Name = name
		switch u, _, err := o.host.loop.Find(ctx, name); {
		case err == nil:
			f.Container = u.Container.ID
		case errors.Is(err, mape.ErrUnknown):
			unknown, f.Service = true, knowledge.ServiceKey(name)
		default:
			return h, loopError(err)
		}
	}
	moves := o.host.unwritten(ctx, f) // before the records, which they become in a moment
	all, err := o.host.records(ctx, f)
	if err != nil {
		return h, fmt.Errorf("cannot read the history: %w", err)
	}
	if old := o.host.earlier(ctx, f.Service); old != "" {
		older, err := o.host.records(ctx, store.Filter{Service: old, Limit: f.Limit})
		if err != nil {
			return h, fmt.Errorf("cannot read the history: %w", err)
		}
		all = append(all, older...)[:min(len(all)+len(older), f.Limit)]
	}
	all = withMoves(moves, all, f.Limit)
	if unknown && len(all) == 0 && !o.host.runs(ctx, h.Name) && !o.host.recorded(ctx, f.Service) {
		return h, api.Errorf(api.KindNotFound,
			"no container or service %q on this host, now or in the history: `effiscale status` lists them", h.Name)
	}
	for _, r := range all {
		if z := &r.Action.Resize; z.Count > 1 && z.Resource.Same(z.From, z.To) {
			continue // an earlier version recorded moves that ended where they began
		}
		h.Changes = append(h.Changes, view.Change(r))
	}
	return h, nil
}

// unwritten are the reflex's quota moves that are still being folded into the next record
// of their container.
func (h *host) unwritten(ctx context.Context, f store.Filter) (moves []knowledge.Record) {
	units, _, err := h.containers(ctx)
	if err != nil {
		return nil
	}
	for i := range units {
		u := &units[i] // a copy: nothing is taken from the loop
		if u.Container.ID != f.Container && (f.Container != "" || f.Service != "" && u.Container.Service != f.Service) {
			continue
		}
		for _, r := range u.TakeQuotaMoves(time.Now()) {
			r.Outcome.Message = "so far, not written yet"
			moves = append(moves, r)
		}
	}
	return moves
}

// withMoves puts moves that no record holds yet among the records, newest first.
func withMoves(moves, records []knowledge.Record, limit int) []knowledge.Record {
	moves = slices.DeleteFunc(moves, func(m knowledge.Record) bool {
		return slices.ContainsFunc(records, func(r knowledge.Record) bool {
			return r.Action.Kind == m.Action.Kind && r.Action.ID == m.Action.ID && !r.Action.Resize.Start &&
				r.Action.Resize.Resource == m.Action.Resize.Resource && !r.Action.At.Before(m.Action.At)
		})
	})
	records = append(moves, records...) // and folded moves are recorded after what came later
	slices.SortStableFunc(records, func(a, b knowledge.Record) int { return b.Action.At.Compare(a.Action.At) })
	return records[:min(len(records), limit)]
}

// handler streams the changes of this host, newest first, one JSON object a line.
func (o records) handler(*peers) (string, relay.Handler) {
	return "history", relay.Handler{MaxBody: 1 << 10, Stream: o.stream}
}

func (o records) stream(ctx context.Context, _ knowledge.NodeID, body []byte, w io.Writer) error {
	var q api.RecordsRequest
	if err := json.Unmarshal(body, &q); err != nil || q.Limit < 1 {
		return &relay.Error{Status: http.StatusBadRequest, Text: "expected a name, or none, and a limit"}
	}
	h, err := o.here(ctx, q)
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

// Records is the history of a container or a service on all hosts, newest first by their
// own clocks.
func (o records) Records(ctx context.Context, q api.RecordsRequest) (api.History, error) {
	at, err := o.peers.locate(q.Name)
	if err != nil {
		return api.History{}, err
	}
	return o.at(ctx, at, q)
}

// AllRecords is the history of everything on all hosts.
func (o records) AllRecords(ctx context.Context, q api.AllRecordsRequest) (api.History, error) {
	return o.at(ctx, o.peers.anywhere(""), api.RecordsRequest{Limit: q.Limit})
}

// at is the history at a place.
func (o records) at(ctx context.Context, at place, q api.RecordsRequest) (h api.History, err error) {
	h = api.History{Schema: api.Schema, Name: q.Name, Changes: []api.Change{}}
	if q.Limit = min(q.Limit, api.MaxRecords); q.Limit == 0 {
		q.Limit = defaultRecords
	}
	q.Name = at.name
	if at.here {
		if h, err = o.here(ctx, q); at.alone || at.host != "" || err != nil && at.last(err) {
			return h, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, historyWithin)
	defer cancel()
	histories := o.open(ctx, &at, q)
	defer func() {
		for _, one := range histories {
			_ = one.stream.Close()
		}
	}()
	if len(histories) == 0 && (err != nil || !at.here) {
		_, err = o.peers.only(&at)
		return h, err
	}
	if len(histories) > 0 {
		for i := range h.Changes {
			h.Changes[i].Host = o.host.name
		}
	}
	h.Changes = merge(append(histories, &hostHistory{local: h.Changes}), q.Limit)
	for _, host := range o.peers.silent(&at) {
		h.Notes = append(h.Notes, "changes on "+host+" are missing: it cannot be asked")
	}
	for _, one := range histories {
		if one.err != nil {
			h.Notes = append(h.Notes, fmt.Sprintf("changes on %s are incomplete: %v", one.host, one.err))
		}
	}
	return h, nil
}

// open asks all other hosts at once; those without a history of the name are left out.
func (o records) open(ctx context.Context, at *place, q api.RecordsRequest) (all []*hostHistory) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil
	}
	streams := make([]io.ReadCloser, len(at.there))
	var each sync.WaitGroup
	for i := range at.there {
		a := &at.there[i]
		each.Go(func() { streams[i], a.err = o.peers.cluster.Relay().Stream(ctx, a.peer.ID, "history", body) })
	}
	each.Wait()
	for i, s := range streams {
		if s != nil {
			all = append(all, newHostHistory(nameOr(at.there[i].peer), s))
		}
	}
	return all
}

// hostHistory is one host's history as it comes in. Only its next change is in memory.
type hostHistory struct {
	host   string
	local  []api.Change // of this host; else from
	stream io.ReadCloser
	from   *bufio.Scanner // a change a line
	next   *api.Change    // nil: no more
	err    error          // why there is none
}

func newHostHistory(host string, s io.ReadCloser) *hostHistory {
	h := &hostHistory{host: host, stream: s, from: bufio.NewScanner(s)}
	h.from.Buffer(nil, maxChange)
	return h
}

// advance reads the next change.
func (h *hostHistory) advance() {
	h.next = nil
	if h.from == nil {
		if len(h.local) > 0 {
			h.next, h.local = &h.local[0], h.local[1:]
		}
		return
	}
	if !h.from.Scan() {
		h.err = h.from.Err()
		return
	}
	var c api.Change
	if h.err = json.Unmarshal(h.from.Bytes(), &c); h.err == nil {
		c.Host = h.host
		h.next = &c
	}
}

// merge takes the newest change of any host until there are limit; no more is read.
func merge(all []*hostHistory, limit int) []api.Change {
	out := []api.Change{}
	for _, h := range all {
		h.advance()
	}
	for len(out) < limit {
		var newest *hostHistory
		for _, h := range all {
			if h.next != nil && (newest == nil || h.next.At.After(newest.next.At)) {
				newest = h
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
