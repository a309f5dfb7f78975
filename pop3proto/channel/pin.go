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

// Pin is the SHA-256 of a certificate, or of its public key, which stays the
// same when a certificate is renewed for the same key.
type Pin struct {
	Key bool // of the public key, its SubjectPublicKeyInfo (RFC 7469 §2.4)
	Sum [sha256.Size]byte
}

// keyPrefix marks the pin of a public key.
const keyPrefix = "key:"

// ParsePin reads a pin: 64 hex digits, with or without colons, behind key: if
// they are those of the public key; or sha256// and the base64 of the latter,
// as curl writes it.
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

// String returns the pin as ParsePin reads it.
func (p Pin) String() string {
	if p.Key {
		return keyPrefix + hex.EncodeToString(p.Sum[:])
	}
	return hex.EncodeToString(p.Sum[:])
}

// PinsOf returns the pins that c matches: its own and that of its key.
func PinsOf(c *x509.Certificate) []Pin {
	return []Pin{{Sum: sha256.Sum256(c.Raw)}, {Key: true, Sum: sha256.Sum256(c.RawSubjectPublicKeyInfo)}}
}

// PinError is the error of a server whose certificate matches no pin.
type PinError struct{ Certificate *x509.Certificate }

// Error names the certificate's own fingerprint, so that it can be compared
// with one learned over another channel.
func (e *PinError) Error() string {
	return "the certificate's fingerprint is not tls_fingerprint but " + PinsOf(e.Certificate)[0].String()
}

// match checks the server's certificate against the pins.
func (t Trust) match(cs tls.ConnectionState) error {
	cert := cs.PeerCertificates[0]
	for _, p := range PinsOf(cert) {
		if slices.Contains(t.Pins, p) {
			return nil
		}
	}
	return &PinError{cert}
}
