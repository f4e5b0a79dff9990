"""What all sites share: the contract, running trials, job handles, diagnosis."""
