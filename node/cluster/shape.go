package cluster

import (
	"fmt"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// What a message says in one byte, an empty replica, takes 850 bytes once it is read:
// 4 MiB of a member that lies would be 3 GiB. So lists are counted, without keeping
// what is in them, before they are read.

// nothing is an element that is only counted.
type nothing struct{}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (*nothing) UnmarshalCBOR([]byte) error { return nil }

// listedMost bounds the replicas, or envelopes, of one message: those of an honest one
// have more than 256 bytes each.
const listedMost = trust.MaxMessage / 256

// reportList is a message of reports.
type reportList []plan.Report

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *reportList) UnmarshalCBOR(b []byte) error {
	var shape []struct{ Replicas []nothing }
	if err := trust.Unmarshal(b, &shape); err != nil {
		return err
	}
	replicas := 0
	for i := range shape {
		replicas += len(shape[i].Replicas)
	}
	if len(shape) > batchMost || replicas > listedMost {
		return fmt.Errorf("%d reports of %d replicas in a message: at most %d of %d", len(shape), replicas, batchMost, listedMost)
	}
	return trust.Unmarshal(b, (*[]plan.Report)(r))
}

// declarations is a message of intents.
type declarations []Declared

// UnmarshalCBOR implements cbor.Unmarshaler.
func (d *declarations) UnmarshalCBOR(b []byte) error {
	var shape []struct {
		Intent struct {
			Envelopes []nothing `cbor:"5,keyasint"`
		} `cbor:"1,keyasint"`
		Votes []nothing `cbor:"2,keyasint"`
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
	if len(shape) > batchMost || envelopes > listedMost {
		return fmt.Errorf("%d intents with %d envelopes in a message: at most %d with %d", len(shape), envelopes, batchMost, listedMost)
	}
	return trust.Unmarshal(b, (*[]Declared)(d))
}

// question is an intent to vote about.
type question knowledge.Intent

// UnmarshalCBOR implements cbor.Unmarshaler.
func (q *question) UnmarshalCBOR(b []byte) error {
	var shape struct {
		Envelopes []nothing `cbor:"5,keyasint"`
	}
	if err := trust.Unmarshal(b, &shape); err != nil {
		return err
	}
	if n := len(shape.Envelopes); n > replicasVoted {
		return fmt.Errorf("a vote about %d envelopes: at most %d", n, replicasVoted)
	}
	return trust.Unmarshal(b, (*knowledge.Intent)(q))
}
