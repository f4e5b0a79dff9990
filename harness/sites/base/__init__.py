"""What all sites share: the contract, running trials and their job handles, results and diagnosis."""
