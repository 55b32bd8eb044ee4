package ring

import "github.com/effiscale/effiscale/knowledge"

// order is one member's permutation of the partitions: three odd multiplications
// modulo 2^16 with a fold between them, each of which can be undone.
type order struct {
	mul, inv [3]uint16 // inv undoes mul
	add      [3]uint16
}

func newOrder(h uint64) order {
	var o order
	for i := range o.mul {
		h = mix(h)
		o.mul[i], o.add[i] = uint16(h)|1, uint16(h>>16)
		// Newton's iteration: each step doubles the bits that are right, from 3 on.
		x := o.mul[i]
		for range 3 {
			x *= 2 - o.mul[i]*x
		}
		o.inv[i] = x
	}
	return o
}

// partition is the one at a place of this order.
func (o *order) partition(place uint16) uint16 {
	x := fold(place*o.mul[0] + o.add[0])
	x = fold(x*o.mul[1] + o.add[1])
	return x*o.mul[2] + o.add[2]
}

// place is where a partition stands in this order: partition undone.
func (o *order) place(partition uint16) uint16 {
	x := fold((partition - o.add[2]) * o.inv[2])
	x = fold((x - o.add[1]) * o.inv[1])
	return (x - o.add[0]) * o.inv[0]
}

// fold undoes itself, because it shifts by half of the bits.
func fold(x uint16) uint16 { return x ^ x>>8 }

func partitionOf(key knowledge.ServiceKey) uint16 { return uint16(hash(string(key)) >> 48) }

// hash is FNV-1a with mix behind it: alone it spreads short names badly over the
// upper bits.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is a step of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
