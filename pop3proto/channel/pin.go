package channel

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// Pin is the SHA-256 of a certificate, or of its public key, which a renewed
// certificate may keep.
type Pin struct {
	Key bool // Sum is of the public key, the SubjectPublicKeyInfo (RFC 7469 §2.4)
	Sum [sha256.Size]byte
}

// keyPrefix precedes the pin of a public key.
const keyPrefix = "key:"

// ParsePin parses a pin: 64 hex digits, with or without colons; the same after "key:"
// for a public key; or, as curl has it, "sha256//" and base64 for a public key.
func ParsePin(s string) (Pin, error) {
	var p Pin
	var sum []byte
	var err error
	if b64, ok := strings.CutPrefix(s, "sha256//"); ok {
		p.Key = true
		sum, err = base64.StdEncoding.DecodeString(b64)
	} else {
		s, p.Key = strings.CutPrefix(s, keyPrefix)
		sum, err = hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	}
	if err != nil || copy(p.Sum[:], sum) != len(p.Sum) || len(sum) != len(p.Sum) {
		return Pin{}, errors.New("is not a SHA-256 of 64 hex digits")
	}
	return p, nil
}

// String formats the pin for ParsePin.
func (p Pin) String() string {
	if p.Key {
		return keyPrefix + hex.EncodeToString(p.Sum[:])
	}
	return hex.EncodeToString(p.Sum[:])
}

// PinsOf returns the pins that c matches: that of the certificate, and that of its key.
func PinsOf(c *x509.Certificate) []Pin {
	return []Pin{{Sum: sha256.Sum256(c.Raw)}, {Key: true, Sum: sha256.Sum256(c.RawSubjectPublicKeyInfo)}}
}

// PinError means that the server's certificate matches no pin.
type PinError struct{ Certificate *x509.Certificate }

// Error contains the certificate's fingerprint, to compare with one obtained in another
// way.
func (e *PinError) Error() string {
	return "the certificate's fingerprint is not tls_fingerprint but " + PinsOf(e.Certificate)[0].String()
}

// verifyPins returns an error unless the server's certificate matches a pin.
func (t Trust) verifyPins(cs tls.ConnectionState) error {
	cert := cs.PeerCertificates[0]
	for _, p := range PinsOf(cert) {
		if slices.Contains(t.Pins, p) {
			return nil
		}
	}
	return &PinError{cert}
}
