-- Where the parts are that a base model's own file lacks: encoders and autoencoder beside a file of only the transformer.
ALTER TABLE base_models ADD COLUMN parts_source TEXT;
