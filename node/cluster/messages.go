package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// handlers are the calls that peers may make.
func (c *Cluster) handlers() map[string]relay.Handler {
	all := map[string]relay.Handler{
		"reports":  {Serve: c.owner.takeReports, MaxBody: 4 << 20},
		"terms":    {Serve: c.sendTerms},
		"presence": {Serve: c.participation.presence.answer},
		"intents":  {Serve: c.applier.takeIntents, MaxBody: 4 << 20},
		"votes":    {Serve: c.attestation.vote},
		"voters":   {Serve: c.majority.answer},
		"images":   {Serve: c.images.answer},
	}
	maps.Copy(all, c.o.Handlers)
	return all
}

// seal signs a message for the present start of a node. One that restarted since gossip
// last saw it refuses the message, and gets it again.
func (c *Cluster) seal(kind string, to knowledge.NodeID, v any) ([]byte, error) {
	p, ok := c.members.Peer(to)
	if !ok {
		return nil, relay.ErrUnknown
	}
	return c.sealer.Seal(kind, to, uint64(p.Started), v)
}

// open reads a signed message and compares its signer with the caller.
func (c *Cluster) open(from knowledge.NodeID, kind string, body []byte, v any) (knowledge.Version, error) {
	if c.left.Load() {
		return knowledge.Version{}, errors.New("this node has left the cluster")
	}
	if err := c.liveness.admit(from); err != nil {
		return knowledge.Version{}, err
	}
	signer, version, err := c.opener.Open(body, kind, v)
	switch {
	case err != nil:
		return version, err
	case signer != from:
		return version, fmt.Errorf("%w: %s, sent by %s", trust.ErrSigner, signer.Short(), from.Short())
	}
	return version, nil
}

// sendTerms answers a node that takes over.
func (c *Cluster) sendTerms(_ context.Context, _ knowledge.NodeID, body []byte) ([]byte, error) {
	var keys []knowledge.ServiceKey
	if err := trust.Unmarshal(body, &keys); err != nil {
		return nil, err
	}
	out := make(map[knowledge.ServiceKey]knowledge.Term, min(len(keys), batchMost))
	for _, key := range keys[:min(len(keys), batchMost)] {
		out[key] = c.terms.Highest(key)
	}
	return trust.Marshal(out)
}

// One byte of a message, an empty replica, takes 850 bytes once it is read: 4 MiB of a
// hostile member would be 3 GiB. So lists are counted, without keeping what is in them,
// before they are read.

// counted is an element that is only counted.
type counted struct{}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (*counted) UnmarshalCBOR([]byte) error { return nil }

// elementsMost bounds the replicas, or envelopes, of one message: those of an honest one
// have more than 256 bytes each.
const elementsMost = trust.MaxMessage / 256

// reportList is a message of reports.
type reportList []plan.Report

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *reportList) UnmarshalCBOR(b []byte) error {
	var shape []struct{ Replicas []counted }
	if err := trust.Unmarshal(b, &shape); err != nil {
		return err
	}
	replicas := 0
	for i := range shape {
		replicas += len(shape[i].Replicas)
	}
	if len(shape) > batchMost || replicas > elementsMost {
		return fmt.Errorf("%d reports of %d replicas in a message: at most %d of %d",
			len(shape), replicas, batchMost, elementsMost)
	}
	return trust.Unmarshal(b, (*[]plan.Report)(r))
}

// declarations is a message of intents.
type declarations []Declared

// UnmarshalCBOR implements cbor.Unmarshaler.
func (d *declarations) UnmarshalCBOR(b []byte) error {
	var shape []struct {
		Intent struct {
			Envelopes []counted `cbor:"5,keyasint"`
		} `cbor:"1,keyasint"`
		Votes []counted `cbor:"2,keyasint"`
	}
	if err := trust.Unmarshal(b, &shape); err != nil {
		return err
	}
	envelopes := 0
	for i := range shape {
		envelopes += len(shape[i].Intent.Envelopes)
		if n := len(shape[i].Votes); n > trust.MaxVotes {
			return fmt.Errorf("%d votes for an intent: at most %d", n, trust.MaxVotes)
		}
	}
	if len(shape) > batchMost || envelopes > elementsMost {
		return fmt.Errorf("%d intents with %d envelopes in a message: at most %d with %d",
			len(shape), envelopes, batchMost, elementsMost)
	}
	return trust.Unmarshal(b, (*[]Declared)(d))
}
