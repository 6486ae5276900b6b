# Example settings for an AMI: make ami SETTINGS=packer/example.pkrvars.hcl
# variables.pkr.hcl has all of them, with their defaults.
region         = "eu-west-1"
instance_types = ["g6.xlarge", "g6.2xlarge", "g5.xlarge"]
volume_size    = 32

# KMS keys that the accounts of share_with may use; with the default key, an AMI cannot be shared.
kms_key_id   = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"
copy_regions = { us-east-1 = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000" }
share_with   = ["444455556666"]

tags = {
  team = "speech"
}
