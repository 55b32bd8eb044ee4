package ops

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// maxRef bounds a name that another host sends.
const maxRef = 256

// method is a call between hosts for this host's part of an operation. Its name and the form
// of its bodies are fixed: hosts of the previous version make and answer it as well.
type method[Q, R any] struct {
	name    string
	maxBody int64
	plain   bool          // Q is a string and is sent as it is, not as JSON
	member  bool          // it changes something: taken only from members that gossip reaches
	check   func(Q) error // of the form of a request; nil: any will do
	here    func(ctx context.Context, from knowledge.NodeID, q Q) (R, error)
}

// answers is a method that this host answers.
type answers interface {
	handler(p *peers) (name string, h relay.Handler)
}

func (m method[Q, R]) handler(p *peers) (string, relay.Handler) {
	serve := func(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
		if m.member {
			if err := p.inGossip(from); err != nil {
				return nil, err
			}
		}
		q, err := m.read(body)
		if err != nil {
			return nil, &relay.Error{Status: http.StatusBadRequest, Text: err.Error()}
		}
		r, err := m.here(ctx, from, q)
		if err != nil {
			return nil, forPeer(err)
		}
		return json.Marshal(r)
	}
	return m.name, relay.Handler{MaxBody: m.maxBody, Serve: serve}
}

func (m method[Q, R]) read(body []byte) (q Q, err error) {
	switch p := any(&q).(type) {
	case *api.None:
		return q, nil
	case *string:
		if m.plain {
			*p = string(body)
			return q, nil
		}
	}
	if err = json.Unmarshal(body, &q); err == nil && m.check != nil {
		err = m.check(q)
	}
	return q, err
}

func (m method[Q, R]) write(q Q) ([]byte, error) {
	switch v := any(q).(type) {
	case api.None:
		return nil, nil
	case string:
		if m.plain {
			return []byte(v), nil
		}
	}
	return json.Marshal(q)
}

// ask asks these hosts at once, and writes down what each answers.
func (m method[Q, R]) ask(ctx context.Context, p *peers, these []answer, q Q) {
	body, err := m.write(q)
	if err != nil {
		for i := range these {
			these[i].err = err
		}
		return
	}
	within := peersWithin
	if m.member {
		within = orderWithin
	}
	p.ask(ctx, within, these, m.name, body)
}

// of reads an answer.
func (m method[Q, R]) of(a *answer) (r R, err error) {
	if a.err != nil {
		return r, a.err
	}
	if err := json.Unmarshal(a.body, &r); err != nil {
		return r, api.Errorf(api.KindInternal, "cannot read the answer of host %s: %v", nameOr(a.peer), err)
	}
	return r, nil
}

// elsewhere asks the hosts of a place, and returns the one answer with the name of its host.
func (m method[Q, R]) elsewhere(ctx context.Context, p *peers, at *place, q Q) (r R, host string, err error) {
	m.ask(ctx, p, at.there, q)
	a, err := p.only(at)
	if err != nil {
		return r, "", err
	}
	r, err = m.of(&a)
	return r, nameOr(a.peer), err
}

// order has one host do something.
func (m method[Q, R]) order(ctx context.Context, p *peers, to *answer, q Q) (r R, err error) {
	body, err := m.write(q)
	if err != nil {
		return r, err
	}
	to.body, to.err = p.cluster.Relay().Call(ctx, to.peer.ID, m.name, body)
	if to.err != nil {
		return r, ofPeer(nameOr(to.peer), to.err)
	}
	return m.of(to)
}

// anywhere answers from this host where the name is here, else from the one other host that
// has it; host is "" for this one.
func anywhere[R any](ctx context.Context, p *peers, m method[string, R], ref string) (r R, host string, err error) {
	at, err := p.locate(ref)
	if err != nil {
		return r, "", err
	}
	if at.here {
		if r, err = m.here(ctx, "", at.name); at.last(err) {
			return r, "", err
		}
	}
	return m.elsewhere(ctx, p, &at, at.name)
}
